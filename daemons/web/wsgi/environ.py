"""The environ of a WSGI application (PEP 3333), with the variable names of CGI (RFC 3875)."""

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

#: Fields without an HTTP_ variable.  Content-Length and Content-Type have variables of their own; the transfer coding
#: is already decoded; and HTTP_PROXY is a setting of many HTTP clients (https://httpoxy.org).
NOT_HANDED_ON = frozenset(("content-length", "content-type", "proxy", "trailer", "transfer-encoding"))


class EnvironCache:
    """Cache of the variables that depend on the request's head alone."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: HeadCache[dict[str, Any]] = HeadCache()

    def make(self, request: Request, peer_environ: dict[str, Any]) -> dict[str, Any]:
        """Return the environ of a request on the connection of `peer_environ`."""
        known = self._known.get(request)
        if known is None:
            known = _head_environ(request)
            self._known.put(request, known)
        environ = {**known, **peer_environ, "wsgi.input": io.BytesIO(request.body)}
        if "CONTENT_LENGTH" in known:
            environ["CONTENT_LENGTH"] = str(len(request.body))
        return environ


def _head_environ(request: Request) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    major, minor = request.version
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        # Bytes decoded as Latin-1 (PEP 3333, "Unicode Issues").  The * of OPTIONS is not a path.
        "PATH_INFO": "" if path == "*" else unquoted(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": f"HTTP/{major}.{minor}",
    }
    for name_bytes, value in request.headers:
        name = name_bytes.decode("latin-1").lower()
        text = value.decode("latin-1")
        if name == "content-type":
            environ["CONTENT_TYPE"] = text
        elif name in ("content-length", "transfer-encoding"):
            environ["CONTENT_LENGTH"] = ""  # set for each request, from its body
        # X_User and X-User would both be HTTP_X_USER, and a proxy in front may have checked X-User only.
        if name in NOT_HANDED_ON or "_" in name:
            continue
        key = f"HTTP_{name.upper().replace('-', '_')}"
        # Repeated fields are a list (RFC 9110, section 5.3), except for Cookie (RFC 9113, section 8.2.3).
        environ[key] = f"{environ[key]}{'; ' if name == 'cookie' else ', '}{text}" if key in environ else text
    return environ


def connection_environ(server: WebServer, address: Any, peer: str) -> dict[str, Any]:
    """Return the variables that are the same for all requests of one connection."""
    scheme = "http" if server.tls is None else "https"
    name, port = str(server.server_name), server.server_port
    return {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": SERVER,
        "SERVER_NAME": f"[{name}]" if ":" in name else name,
        # A Unix socket has no port; PEP 3333 requires one, so it is the scheme's default.
        "SERVER_PORT": str(port or (80 if scheme == "http" else 443)),
        # An IP address (RFC 3875, section 4.1.8); empty for a Unix peer.
        "REMOTE_ADDR": "" if address[0] == peer else address[0],
        "REMOTE_PORT": "" if address[0] == peer else str(address[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": Errors(peer),
        "wsgi.run_once": False,
    }


class Errors:
    """``wsgi.errors`` of one connection: each line is logged."""

    __slots__ = ("_peer", "_rest")

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._rest = ""

    def write(self, text: str) -> int:
        """Log the complete lines of `text`.  Raises `TypeError` for anything but str."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors.write() was given {type(text).__name__}; str is expected")
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log an incomplete line."""
        rest, self._rest = self._rest, ""
        self._log(rest)

    def _log(self, line: str) -> None:
        if line:
            log.error("%s: %s", self._peer, line)
