"""Settings for upstream servers: their address and limits."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from daemons.serving.listening.address import UNIX_PATH_LIMIT
from daemons.settings.values import FieldType, parse_port


class UpstreamLimits(NamedTuple):
    """Time limits of one request, in seconds, and the number of concurrent requests.

    pause
        Maximum pause while the server reads the request, until the head of the response is complete, and between pieces
        of its body.
    total
        Maximum total wait for one response; None: unlimited.  Time spent waiting for the client does not count.
    requests
        Maximum requests in progress.
    """

    pause: float
    total: float | None
    requests: int


#: The zone of an IPv6 address (RFC 4007, section 11) is an interface's name or index.
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[^\s/:\[\]%]+)?)\]|([A-Za-z0-9._-]+)):(\w+)")


class UpstreamAddress(NamedTuple):
    """A host and a port, or the path of a Unix socket."""

    #: The setting as written.
    text: str
    host: str = ""
    port: int = 0
    path: str = ""


def _parse(text: str) -> UpstreamAddress:
    scheme, colon, path = text.partition(":")
    if scheme == "unix" and colon:
        if not path:
            raise ValueError("no path; write unix:run/webapp.sock")
        return UpstreamAddress(text, path=path)
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError("not a server address; write 127.0.0.1:8001, [::1]:8001 or unix:run/webapp.sock")
    if match[1]:
        try:
            ipaddress.IPv6Address(match[1])
        except ValueError:
            raise ValueError(f"{match[1]} is not an IPv6 address; write [::1]:8001") from None
    port = parse_port(match[3])
    if not port:
        raise ValueError("port 0 is not valid; write 127.0.0.1:8001")
    return UpstreamAddress(text, match[1] or match[2], port)


def resolve(address: UpstreamAddress, where: Callable[[str], Path]) -> UpstreamAddress:
    """Return the address with an absolute socket path.  Raises `ValueError` for a path that is too long."""
    if not address.path:
        return address
    path = str(where(address.path))
    if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
        raise ValueError(f"{path} is longer than {UNIX_PATH_LIMIT} bytes, the limit of a Unix socket's path")
    return address._replace(path=path)


UPSTREAM: FieldType[UpstreamAddress] = FieldType(_parse, lambda address: address.text, "server")
