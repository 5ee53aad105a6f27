"""Which kind of server a handler is for.  What most do without is not imported to find out."""

from __future__ import annotations

import socketserver
import sys
from typing import Any

from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer


def server_class(handler: type[socketserver.BaseRequestHandler], body: int | None = None) -> type[StreamServer]:
    """The kind of stream server that `handler` is for; `body` are the most octets of a request's body, where that is
    said."""
    publishing: Any = handler
    if is_published(handler):
        served = publishing.server_class
    elif _is_of_the_web(handler) or _carries_an_application(handler):
        from daemons.web.handlers.server import WebServer  # http.server is dear, and most do without it

        served = WebServer
    else:
        return StreamServer
    if body is not None:
        from daemons.framings.http import HTTP

        served = type(served.__name__, (served,), {"framing": HTTP(body=body)})
    return served  # type: ignore[no-any-return]


def is_published(kind: type) -> bool:
    """Whether it is what ``rpc =`` publishes, whose module then is imported already."""
    module = sys.modules.get("daemons.rpc.xml.publishing")
    return module is not None and issubclass(kind, module.Published)


def _is_of_the_web(handler: type[socketserver.BaseRequestHandler]) -> bool:
    """Whether it is one of the standard library's http.server, which then is imported already."""
    module = sys.modules.get("http.server")
    return module is not None and issubclass(handler, module.BaseHTTPRequestHandler)


def _carries_an_application(handler: type[socketserver.BaseRequestHandler]) -> bool:
    """Whether it is the pump of a WSGI application, whose module then is imported already."""
    module = sys.modules.get("daemons.web.wsgi.service")
    return module is not None and issubclass(handler, Pump) and isinstance(handler.service, module.WSGIService)


def runs_in_memory(handler: type[socketserver.BaseRequestHandler]) -> bool:
    """Whether it never waits on its socket, having none."""
    if not _is_of_the_web(handler):
        return False
    from daemons.web.handlers.mixins import in_memory

    return in_memory(handler)
