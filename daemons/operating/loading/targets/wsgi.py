"""``wsgi =``: a WSGI application."""

from __future__ import annotations

import inspect
import socketserver
from collections.abc import Callable
from typing import Any, cast

from daemons.operating.loading.module_import import find
from daemons.operating.loading.targets.service import ServiceTarget
from daemons.operating.loading.targets.target import MODULE_AND_NAME
from daemons.operating.loading.targets.web_server import web_server
from daemons.serving.conversation.service import Service
from daemons.serving.stream import StreamServer


class WSGITarget(ServiceTarget):
    """``wsgi =``: an application, as PEP 3333 defines it."""

    key = "wsgi"
    form = "module:NAME, for the application NAME in that module"
    pattern = MODULE_AND_NAME
    stream_protocol = "HTTP"

    def _load(self) -> Any:
        module = self._import()
        application = find(module, self.name, self.where, callable)
        if not callable(application):
            raise self.complaint(f"{self.name} is not callable; a WSGI application is, PEP 3333")
        for key, base in (("service", Service), ("handler", socketserver.BaseRequestHandler)):
            if inspect.isclass(application) and issubclass(application, base):
                raise self.complaint(f"{self.name} is no WSGI application; write {key} = {self.value}")
        from daemons.web.wsgi.service import WSGIService

        engine = self.settings.daemon.engine
        return WSGIService.of(
            application,
            self.name,
            module.__name__,
            multithread=engine in ("threads", "pool"),
            multiprocess=engine == "forks" or self.settings.processes > 1,
        )

    def application(self) -> Callable[..., Any]:
        service: Any = self._make(self.served_class)
        return cast("Callable[..., Any]", service.ready)

    def _server_class(self) -> type[StreamServer]:
        return web_server(self.settings)
