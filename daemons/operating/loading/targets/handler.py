"""``handler =``: a request handler of socketserver or http.server."""

from __future__ import annotations

import socketserver
from typing import Any

from daemons.operating.loading.options import parse_options
from daemons.operating.loading.targets.target import RequestHandlers, Target
from daemons.operating.loading.targets.web_server import is_http, web_server
from daemons.serving.engines import stream_server
from daemons.serving.stream import StreamServer

#: Handler classes that do not fit a listener, by whether it receives datagrams.
_MISMATCHED = {False: socketserver.DatagramRequestHandler, True: socketserver.StreamRequestHandler}


class HandlerTarget(Target):
    """``handler =``: a class that reads its socket itself, or a handler of http.server, which is run in memory."""

    key = "handler"
    form = "module:Class"

    def _load(self) -> Any:
        return self._load_class(socketserver.BaseRequestHandler)

    def _options_of(self, kind: Any) -> Any:
        return parse_options(self.settings, kind.__name__, None)

    def request_handlers(self) -> RequestHandlers:
        kind = self.served_class
        self._check_idle_exit()
        if not self._runs_in_memory(kind):
            self._check_raw(kind)
        self._check_listeners(kind)
        handler = self._configure(kind)
        self._limit_waiting()
        return RequestHandlers(handler, handler, self._server_class(handler))

    def _check_raw(self, kind: type[socketserver.BaseRequestHandler]) -> None:
        """Refuse settings that a handler with its own socket cannot have."""
        if self.settings.limits.body is not None:
            self._refuse_body(f"{kind.__name__} reads its socket itself")
        engine = self.settings.daemon.engine
        if not stream_server(engine).raw_handlers:
            raise self.complaint(f"engine = {engine} cannot run a raw handler, which blocks; write engine = threads")

    def _check_listeners(self, kind: type[socketserver.BaseRequestHandler]) -> None:
        """Refuse listeners of the other socket type for the standard library's stream and datagram handlers."""
        for address in self.settings.addresses:
            over_udp = address.scheme == "udp"
            if not address.inherited and issubclass(kind, _MISMATCHED[over_udp]):
                name = "a stream handler" if over_udp else "a datagram handler"
                raise self.complaint(f"{kind.__name__} is {name}, which cannot serve {address}")

    def _configure(self, kind: Any) -> Any:
        """Return the handler class with its options."""
        return kind if self.options is None else kind.configured(self.options)

    def _runs_in_memory(self, kind: type) -> bool:
        if not is_http(kind):
            return False
        from daemons.web.handlers.mixins import in_memory

        return in_memory(kind)

    def _server_class(self, handler: Any) -> type[StreamServer]:
        return web_server(self.settings) if is_http(handler) else StreamServer
