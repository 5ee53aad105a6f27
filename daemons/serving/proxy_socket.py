"""Reading of a PROXY header from a socket, for raw handlers."""

from __future__ import annotations

import time
from socket import socket

from daemons.framings.base import FramingError
from daemons.framings.proxy import Header, HeaderDecoder


def read_header(request: socket, seconds: float) -> Header | FramingError:
    """Read the PROXY header from a socket, and not one byte more: the raw handler reads the rest itself.

    Return the error if the header is malformed.  Raise `TimeoutError` if it is not complete within `seconds`, and
    `OSError` if the connection fails."""
    until = time.monotonic() + seconds
    decoder = HeaderDecoder()
    while wanted := decoder.wanted:
        request.settimeout(max(0.001, until - time.monotonic()))
        data = request.recv(wanted)
        if data:
            decoder.decode(data)
        else:
            decoder.finish()
    result = decoder.header or decoder.error
    assert result is not None
    return result
