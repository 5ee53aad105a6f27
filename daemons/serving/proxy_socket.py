"""The PROXY header in front of a raw handler, which sees a socket."""

from __future__ import annotations

import time
from socket import socket

from daemons.framings.base import FramingError
from daemons.framings.proxy import Header, HeaderDecoder


def read_header(request: socket, seconds: float) -> Header | FramingError:
    """Read the PROXY header off a socket and not one octet more: for a raw handler, which reads what follows
    itself.  Raises `TimeoutError` where it is not complete within `seconds`, `OSError` where the peer has gone."""
    until = time.monotonic() + seconds
    decoder = HeaderDecoder()
    while wanted := decoder.wanted:
        request.settimeout(max(0.001, until - time.monotonic()))
        data = request.recv(wanted)
        if data:
            decoder.decode(data)
        else:
            decoder.finish()
    said = decoder.header or decoder.error
    assert said is not None
    return said
