"""Middleware (PEP 3333): wrappers of an application that are applications themselves."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from daemons.webapp.rendering import ROOT
from daemons.webapp.sessions import SESSION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: Content-Security-Policy: resources of this site only, no scripts, no framing.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

PROTECTION = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
)


class Recorded:
    """Log the request, the status and the time until the response starts, in seconds, at level DEBUG.  The time to
    send a streamed response is not included."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Before the call, since mounting changes these keys.
        asked = f"{environ['REQUEST_METHOD']} {environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        begun = time.perf_counter()

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            log.debug("%s %s seconds=%.3f", asked, status[:3], time.perf_counter() - begun)
            return start_response(status, headers, *exc_info)

        return self._application(environ, start)


class Secured:
    """Add security fields to responses, unless the application has set them."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            present = {name.lower() for name, _ in headers}
            more = [(name, value) for name, value in PROTECTION if name.lower() not in present]
            return start_response(status, [*headers, *more], *exc_info)

        return self._application(environ, start)


class CaseSensitive:
    """Refuse a method in lower case with 501: methods are case-sensitive (RFC 9110, section 9.1), but frameworks take
    ``get`` for GET."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method != method.upper():
            text = "501 Not Implemented: methods are case-sensitive.\n"
            response: Any = Response(text, 501, mimetype="text/plain")
            return response(environ, start_response)  # type: ignore[no-any-return]
        return self._application(environ, start_response)


class ForHosts:
    """Refuse requests for other hosts than these with 404, which prevents DNS rebinding; without hosts, accept every
    host."""

    def __init__(self, application: WSGIApplication, hosts: tuple[str, ...]) -> None:
        self._application = application
        self._hosts = frozenset(hosts)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._hosts and _host(environ) not in self._hosts:
            response: Any = Response("404 Not Found: unknown host.\n", 404, mimetype="text/plain")
            return response(environ, start_response)  # type: ignore[no-any-return]
        return self._application(environ, start_response)


def _host(environ: WSGIEnvironment) -> str:
    """Return the requested host in lower case, without port and brackets."""
    host = str(environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")).lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


class BehindProxies:
    """Set REMOTE_ADDR to the last address in X-Forwarded-For, for requests from these proxies: addresses, or ``unix``
    for a Unix socket.  Otherwise all clients of a proxy would share one limit on password guessing.  Earlier addresses
    in the field are set by the client and not trustworthy."""

    def __init__(self, application: WSGIApplication, proxies: tuple[str, ...]) -> None:
        self._application = application
        self._proxies = frozenset(proxies)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if (environ.get("REMOTE_ADDR") or "unix") in self._proxies:
            address = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
            with suppress(ValueError):
                environ["REMOTE_ADDR"] = str(ipaddress.ip_address(address))
                environ.pop("REMOTE_PORT", None)  # the proxy's
        return self._application(environ, start_response)


class MethodOverride:
    """Apply X-HTTP-Method-Override to POST requests, for clients behind a proxy that blocks other methods.  Safe
    methods are not allowed, lest a link have the effect of a POST; forms of other sites cannot set the field."""

    METHODS = frozenset(("PUT", "PATCH", "DELETE"))

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        wanted = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").upper()
        if environ["REQUEST_METHOD"] == "POST" and wanted in self.METHODS:
            environ["REQUEST_METHOD"] = wanted
        return self._application(environ, start_response)


class Authenticated:
    """Set REMOTE_USER to the user of the session, unless the password was changed since the login, and remove any value
    set by the server.  `stored` returns a user's current hash, empty for an unknown user."""

    def __init__(self, application: WSGIApplication, stored: Callable[[str], str] = str) -> None:
        self._application = application
        self._stored = stored

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop("REMOTE_USER", None)
        session = environ[SESSION]
        user = session.user
        if user and session.is_current(self._stored(user)):
            environ["REMOTE_USER"] = user
        return self._application(environ, start_response)


class Themed:
    """Add this site's style and header to the HTML pages of an application."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        root = Request(environ).root_path if ROOT not in environ else environ[ROOT]
        response = Response.from_app(self._application, environ, buffered=True)
        if response.mimetype == "text/html":
            values = {b"root": escape(root).encode("utf-8")}
            page = response.get_data()
            for tag, more in ((b"<head>", _HEAD), (b"<body>", _TOP)):
                page = page.replace(tag, tag + more % values, 1)
            if environ["REQUEST_METHOD"] == "HEAD":
                response.headers = Headers([(k, v) for k, v in response.headers if k.lower() != "content-length"])
            else:
                response.set_data(page)
        return response(environ, start_response)


_HEAD = (
    b'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    b'<link rel="icon" href="%(root)b/static/castle.svg"><link rel="stylesheet" href="%(root)b/static/style.css">'
)

_TOP = (
    b'<header><a class="home" href="%(root)b/"><img src="%(root)b/static/castle.svg" alt="" width="40" height="30">'
    b"Camelot</a></header>"
)
