"""Service that calls a WSGI application (PEP 3333) for each request.  Without a socket."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from daemons.framings import Framing
from daemons.framings.http import HTTP, Request
from daemons.framings.http.refusals import RESPONSES
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import Reply, Service, Talk
from daemons.web.asking import requests
from daemons.web.handlers.response_buffer import Bounds
from daemons.web.handlers.service import FAILED, FAILED_SIZE
from daemons.web.responses import CONTINUE
from daemons.web.wsgi.environ import EnvironCache, connection_environ
from daemons.web.wsgi.file_wrapper import FileWrapper
from daemons.web.wsgi.response import WSGIResponse

if TYPE_CHECKING:
    from daemons.web.handlers.server import WebServer


class WSGIService(Service):
    """Runs an application for all connections of a process, in the pump of a `WebServer`.  Made by `of`."""

    framing: Framing = HTTP()
    questions = (b"/",)
    #: The application, or a class that is called with its options and returns one.  A staticmethod, so that a function
    #: does not become a method.
    application: ClassVar[Callable[..., Any]]
    #: Whether it may be called concurrently, by threads of this process or by other processes (PEP 3333).
    multithread: ClassVar[bool] = True
    multiprocess: ClassVar[bool] = True

    @staticmethod
    def of(application: Callable[..., Any], name: str = "", module: str = "", **more: Any) -> type[WSGIService]:
        """Return the service class of an application; `name` is used in messages, and `more` are attributes.

        A class with a dataclass `Options` is not itself the application: it is called with its options, and returns the
        application."""
        kind = application if inspect.isclass(application) or inspect.isroutine(application) else type(application)
        attributes: dict[str, Any] = {"__module__": module or kind.__module__, "__doc__": inspect.getdoc(kind)}
        options = getattr(application, "Options", None) if inspect.isclass(application) else None
        attributes["Options"] = options if dataclasses.is_dataclass(options) else None
        service = {"application": staticmethod(application), **attributes, **more}
        return type(name or kind.__name__, (WSGIService,), service)

    def __init__(self, options: Any = None) -> None:
        self._environs = EnvironCache()
        super().__init__(options if options is not None or self.Options is None else self.Options())
        #: The application, ready to be called.
        self.ready = self.application if self.Options is None else self.application(self.options)

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        """Return the requests of ``daemons ask``: a GET for each path; the last one closes the connection."""
        return requests(words)

    def talk(self, peer: Peer) -> Talk:
        """Raises `NotImplementedError`: `talk_to` needs the server and the client."""
        raise NotImplementedError

    def apology(self, ending: Ending, /) -> bytes:
        """Return a 500 response after an exception.  For malformed requests, the framing's error is the response."""
        return FAILED if ending is Ending.FAILED else b""

    def _log_request(self, host: str, request: Request, status: int, size: int | None) -> None:
        """Log a request."""
        if self.request_log is not None:
            self.request_log.log(host, self.request_log.entry(request, status, size))

    def talk_to(self, server: WebServer, address: Any, peer: str, is_gone: Callable[[], bool] = bool) -> Talk:
        """Call the application for the requests of one connection.

        `address` and `peer` are the client's address and its name in the log.  `is_gone` returns True if the client can
        receive nothing more."""
        peer_environ: dict[str, Any] | None = None
        reply: Reply | None = None
        bounds = Bounds(server.limits.response, is_gone)
        try:
            while True:
                request = cast(Request, (yield reply))
                if request.expects:
                    reply = CONTINUE
                    continue
                if request.method == "CONNECT":
                    return RESPONSES[501]  # WSGI has no tunnels
                if peer_environ is None:
                    peer_environ = {
                        **connection_environ(server, address, peer),
                        "wsgi.file_wrapper": FileWrapper,
                        "wsgi.multithread": self.multithread,
                        "wsgi.multiprocess": self.multiprocess,
                    }
                response = WSGIResponse(type(self).__name__, peer, request, server.draining, bounds)
                try:
                    reply = response.run(self.ready, self._environs.make(request, peer_environ))
                except BaseException:
                    if response.peer_is_gone:
                        self._log_request(address[0], request, response.status, 0)
                        return b""
                    self._log_request(address[0], request, 500, FAILED_SIZE)
                    raise
                peer_environ["wsgi.errors"].flush()
                self._log_request(address[0], request, response.status, response.size)
                if response.closes and request.keep_alive:
                    return reply
        finally:
            if peer_environ is not None:
                peer_environ["wsgi.errors"].flush()
