"""What a WSGI application is told of a request: the environ of PEP 3333, whose names are CGI's (RFC 3875)."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from daemons.framings.cache import HeadCache
from daemons.web.responses import SERVER
from daemons.web.site.prefix_map import unquoted

if TYPE_CHECKING:
    from daemons.framings.http import Request
    from daemons.web.handlers.server import WebServer

log = logging.getLogger(__name__)

#: Fields that have a name of their own, or tell how the body was framed on its way; the body is here, out of its
#: chunks.  And one that would be called HTTP_PROXY, which is a setting of many clients (https://httpoxy.org).
NOT_HANDED_ON = frozenset(("content-length", "content-type", "proxy", "trailer", "transfer-encoding"))


class Environs:
    """From requests to what of their environ depends on the head alone, made once for heads that are the same."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: HeadCache[dict[str, Any]] = HeadCache()

    def make(self, request: Request, visitor: dict[str, Any]) -> dict[str, Any]:
        """The environ of `request`, and of its visitor."""
        known = self._known.get(request)
        if known is None:
            known = _of_head(request)
            self._known.put(request, known)
        environ = {**known, **visitor, "wsgi.input": io.BytesIO(request.body)}
        if "CONTENT_LENGTH" in known:
            environ["CONTENT_LENGTH"] = str(len(request.body))
        return environ


def _of_head(request: Request) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    major, minor = request.version
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        # Octets in a str, PEP 3333, "Unicode Issues".  The * of OPTIONS is no path.
        "PATH_INFO": "" if path == "*" else unquoted(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": f"HTTP/{major}.{minor}",
    }
    for octets, value in request.headers:
        name = octets.decode("latin-1").lower()
        text = value.decode("latin-1")
        if name == "content-type":
            environ["CONTENT_TYPE"] = text
        elif name in ("content-length", "transfer-encoding"):
            environ["CONTENT_LENGTH"] = ""  # there is a body, and how long it is depends on the body
        # With an underscore, X_User is HTTP_X_USER as X-User is, which a proxy in front may have made sure of.
        if name in NOT_HANDED_ON or "_" in name:
            continue
        key = f"HTTP_{name.upper().replace('-', '_')}"
        # RFC 9110, section 5.3; Cookie is RFC 9113's exception, section 8.2.3.
        environ[key] = f"{environ[key]}{'; ' if name == 'cookie' else ', '}{text}" if key in environ else text
    return environ


def of_visitor(server: WebServer, address: Any, peer: str) -> dict[str, Any]:
    """What of the environ is the same for all requests of one visitor."""
    scheme = "http" if server.tls is None else "https"
    name, port = str(server.server_name), server.server_port
    return {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": SERVER,
        "SERVER_NAME": f"[{name}]" if ":" in name else name,
        # A Unix socket has none; what is of use then is the scheme's own.
        "SERVER_PORT": str(port or (80 if scheme == "http" else 443)),
        # RFC 3875, section 4.1.8, would have an IP address, and a Unix peer has none.
        "REMOTE_ADDR": "" if address[0] == peer else address[0],
        "REMOTE_PORT": "" if address[0] == peer else str(address[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": Errors(peer),
        "wsgi.run_once": False,
    }


class Errors:
    """``wsgi.errors`` of one visitor: each line is one of the log."""

    __slots__ = ("_peer", "_rest")

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._rest = ""

    def write(self, text: str) -> int:
        """Log what lines are complete.  Raises `TypeError` for what is no text."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors is written {type(text).__name__}; str is expected")
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log a line that has not been ended."""
        rest, self._rest = self._rest, ""
        self._log(rest)

    def _log(self, line: str) -> None:
        if line:
            log.error("%s: %s", self._peer, line)
