"""Server class of the targets that speak HTTP.  `daemons.web` is imported only for them."""

from __future__ import annotations

from daemons.operating.config.sections import Settings
from daemons.serving.stream import StreamServer


def is_http(handler: type) -> bool:
    """Return whether `handler` is a subclass of `http.server.BaseHTTPRequestHandler`, without importing that."""
    return any(
        (base.__module__, base.__name__) == ("http.server", "BaseHTTPRequestHandler") for base in handler.__mro__
    )


def web_server(settings: Settings) -> type[StreamServer]:
    from daemons.web.handlers.server import WebServer

    return with_body_limit(WebServer, settings)


def with_body_limit(server: type[StreamServer], settings: Settings) -> type[StreamServer]:
    """Return the server class with [limits] body, if that is set."""
    body = settings.limits.body
    if body is None:
        return server
    from daemons.framings.http import HTTP

    return type(server.__name__, (server,), {"framing": HTTP(body=body)})
