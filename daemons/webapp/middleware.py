"""Middleware (PEP 3333): what stands between a server and an application, and is both to the other side."""

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

#: Nothing but what this site itself has, no script at all, and in nobody's frame.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

PROTECTION = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
)


class Recorded:
    """Records: what was asked, the status, and how long the application took, in seconds, for who writes DEBUG for this
    logger.  What is sent later, piece by piece, takes its own time."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # As it is asked for: what is mounted changes these.
        asked = f"{environ['REQUEST_METHOD']} {environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        begun = time.perf_counter()

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            log.debug("%s %s seconds=%.3f", asked, status[:3], time.perf_counter() - begun)
            return start_response(status, headers, *exc_info)

        return self._application(environ, start)


class Secured:
    """Adjusts: tells the browser what a page may do, unless the page has said so itself."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            said = {name.lower() for name, _ in headers}
            more = [(name, value) for name, value in PROTECTION if name.lower() not in said]
            return start_response(status, [*headers, *more], *exc_info)

        return self._application(environ, start)


class CaseSensitive:
    """Refuses a method that is not in capitals: ``get`` is not GET (RFC 9110, section 9.1), but frameworks take it for
    that."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method != method.upper():
            response: Any = Response("501 Not Implemented: methods are in capitals.\n", 501, mimetype="text/plain")
            return response(environ, start_response)  # type: ignore[no-any-return]
        return self._application(environ, start_response)


class ForHosts:
    """Refuses: an application that answers for these hosts alone, or, with none, for every host.  A page of another
    site, whose name suddenly means this machine, hears 404 (DNS rebinding)."""

    def __init__(self, application: WSGIApplication, hosts: tuple[str, ...]) -> None:
        self._application = application
        self._hosts = frozenset(hosts)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._hosts and _host(environ) not in self._hosts:
            response: Any = Response("404 Not Found: nobody answers for this host here.\n", 404, mimetype="text/plain")
            return response(environ, start_response)  # type: ignore[no-any-return]
        return self._application(environ, start_response)


def _host(environ: WSGIEnvironment) -> str:
    """The host that is asked for, without a port or brackets, in small letters."""
    host = str(environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")).lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


class BehindProxies:
    """Set REMOTE_ADDR to the last address in X-Forwarded-For, for requests from these proxies: addresses, or ``unix``
    for a Unix socket.  Without it all clients of a proxy are one peer, and one that guesses passwords has the logins of
    all others refused.  Earlier addresses in that field are the client's own words."""

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
    """Modifies: a POST with X-HTTP-Method-Override is the method named there, for clients whose way lets through no
    other.  Never one that is safe, lest a link could do what needs a POST; nor can a form of another site set it."""

    METHODS = frozenset(("PUT", "PATCH", "DELETE"))

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        wanted = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").upper()
        if environ["REQUEST_METHOD"] == "POST" and wanted in self.METHODS:
            environ["REQUEST_METHOD"] = wanted
        return self._application(environ, start_response)


class Authenticated:
    """Authenticates: REMOTE_USER is the user who has logged in, if `knows` still knows that name; a value of the
    server's is removed."""

    def __init__(self, application: WSGIApplication, knows: Callable[[str], bool] = bool) -> None:
        self._application = application
        self._knows = knows

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop("REMOTE_USER", None)
        user = environ[SESSION].user
        if user and self._knows(user):
            environ["REMOTE_USER"] = user
        return self._application(environ, start_response)


class Themed:
    """Adjusts: the HTML pages of an application get this site's style and head; everything else passes as it is."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        root = Request(environ).root_path if ROOT not in environ else environ[ROOT]
        response = Response.from_app(self._application, environ, buffered=True)
        if response.mimetype == "text/html":
            said = {b"root": escape(root).encode("utf-8")}
            page = response.get_data()
            for tag, more in ((b"<head>", _HEAD), (b"<body>", _TOP)):
                page = page.replace(tag, tag + more % said, 1)
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
