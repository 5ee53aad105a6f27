"""`xmlrpc.server.SimpleXMLRPCServer`, hardened: a `WebServer` for calls."""

from __future__ import annotations

import socketserver
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from daemons.rpc.refusals import PEER, RefusalError, check_access, decompress
from daemons.rpc.xml.dispatcher import INVALID_REQUEST, Dispatcher, fault_of
from daemons.rpc.xml.documentation import POLICY, page
from daemons.rpc.xml.service import OVERRIDABLE, SERVER, RPCService
from daemons.web.files.negotiation import prefers_gzip
from daemons.web.handlers.server import WebServer

if TYPE_CHECKING:
    from daemons.accounts import Accounts
    from daemons.web.handlers.service import WebService


class XMLRPCRequestHandler(SimpleXMLRPCRequestHandler):
    """Request handler: POST is a call; GET is the documentation page, if enabled.  Subclassed like the stock class:
    `rpc_paths`, `encode_threshold` and `decode_request_content` have the same meaning."""

    server: XMLRPCServer
    #: Authenticated user of the current request, or "".
    user = ""
    rpc_paths: ClassVar[Any] = ("/", "/RPC2")

    def do_POST(self) -> None:
        """Answer a call."""
        if self.check_request():
            super().do_POST()

    def do_GET(self) -> None:
        """Send the documentation page."""
        if not self.check_request():
            return
        if not self.server.documents:
            self._respond(405, b"Method Not Allowed: calls are sent by POST.\n", ("Allow", "POST"))
            return
        where = f"http{'s' * (self.server.tls is not None)}://{self.headers.get('host', 'localhost')}{self.path}"
        self._respond(200, self.server.documentation(where), ("Content-Security-Policy", POLICY), media="text/html")

    do_HEAD = do_GET

    def decode_request_content(self, data: bytes) -> bytes | None:
        """Return the body without its content coding; None if it is refused, after the response has been sent.  The
        body limit applies to the decompressed body, too.  The stock method repeats the name of an unknown coding in the
        status line."""
        try:
            match self.headers.get("content-encoding", "identity").lower():
                case "identity":
                    return data
                case "gzip":
                    return decompress(data, getattr(self.server.framing, "body", 1024**2))
            raise RefusalError(501, "Not Implemented: the content coding is neither gzip nor identity.")
        except RefusalError as error:
            self._refuse(error)
            return None

    def accept_encodings(self) -> dict[str, float]:
        """Return gzip with its weight if the client prefers it.  The stock method fails, after the call, for a weight
        such as 1.2.3."""
        return {"gzip": 1.0} if prefers_gzip(self.headers.get("accept-encoding")) else {}

    def report_404(self) -> None:
        """Send 404 Not Found."""
        self._respond(404, b"Not Found: no resource at this path.\n")

    def check_request(self) -> bool:
        """Return whether the path and the access rules allow the request; send the error response if not."""
        if not self.is_rpc_path_valid():
            self.report_404()
            return False
        try:
            fields = {name.lower(): value for name, value in self.headers.items()}
            self.user = self.server.check_access({**fields, PEER: self.client_address[0]})
        except RefusalError as error:
            self._refuse(error)
            return False
        return True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log the request, unless the daemon's access log has it already."""
        if not getattr(self, "logged_in_memory", False):
            super().log_request(code, size)

    def version_string(self) -> str:
        """Return a Server field that does not disclose the version of Python."""
        return SERVER

    def _refuse(self, error: RefusalError) -> None:
        self._respond(error.status, error.body, *error.fields)

    def _respond(self, status: int, body: bytes, *fields: tuple[str, str], media: str = "text/plain") -> None:
        self.send_response(status)
        for name, value in (*fields, ("Content-Type", f"{media}; charset=utf-8"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


_STOCK_METHODS = {name: getattr(XMLRPCRequestHandler, name) for name in OVERRIDABLE}


class _StockServer(SimpleXMLRPCServer):
    """The stock server as a base class after `WebServer`, with the constructor that `WebServer` expects."""

    def __init__(self, address: Any, handler: Callable[..., Any], bind_and_activate: bool = True) -> None:
        socketserver.TCPServer.__init__(self, address, handler, bind_and_activate)


class XMLRPCServer(Dispatcher, WebServer, _StockServer):
    """XML-RPC server for one listener, with the stock constructor and the stock methods.  Mix in an engine before it:
    ``class MyServer(Loop, XMLRPCServer)``.  `logRequests` applies if no daemon writes an access log."""

    #: Title of the documentation page, and realm of the authentication.
    title = "XML-RPC"
    #: Description on the documentation page.
    about = ""
    #: Whether GET returns the documentation page.
    documents = False
    #: Accounts that may call; None allows every peer.
    users: Accounts | None = None

    def __init__(
        self,
        addr: Any,
        requestHandler: Callable[..., Any] = XMLRPCRequestHandler,
        logRequests: bool = False,
        allow_none: bool = False,
        encoding: str | None = None,
        bind_and_activate: bool = True,
        use_builtin_types: bool = False,
    ) -> None:
        self.logRequests = logRequests
        Dispatcher.__init__(self, allow_none, encoding, use_builtin_types)
        WebServer.__init__(self, addr, requestHandler, bind_and_activate)

    def make_service(self, handler: Callable[..., Any]) -> WebService:
        """Return the service that runs `handler` in memory, or answers without it."""
        overridden = type(self).check_access is not XMLRPCServer.check_access
        service = RPCService(self.framing, handler, _STOCK_METHODS, always_uses_handler=overridden)
        service.blocks = self.users is not None and self.users.slow
        return service

    def check_access(self, fields: Mapping[str, str]) -> str:
        """Return the name of the authenticated user, or "" if every peer may call.  `fields` are the request's fields
        by lower-case name, with the peer's IP address as `PEER`.  Raises `RefusalError`."""
        return check_access(fields, self.users, self.title, scripts=False)

    def documentation(self, where: str) -> bytes:
        """Return the documentation page for the URL `where`."""
        return page(self.title, self.about, where, self.published())


class MultiPathXMLRPCServer(XMLRPCServer):
    """`xmlrpc.server.MultiPathXMLRPCServer`: a dispatcher for each path."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.dispatchers: dict[str, SimpleXMLRPCDispatcher] = {}

    def add_dispatcher(self, path: str, dispatcher: SimpleXMLRPCDispatcher) -> SimpleXMLRPCDispatcher:
        """Use `dispatcher` for calls at `path`, which the handler's `rpc_paths` must include."""
        self.dispatchers[path] = dispatcher
        return dispatcher

    def get_dispatcher(self, path: str) -> SimpleXMLRPCDispatcher:
        """Return the dispatcher of a path.  Raises `KeyError`."""
        return self.dispatchers[path]

    def _marshaled_dispatch(self, data: Any, dispatch_method: Any = None, path: Any = None) -> bytes:  # type: ignore[override]
        dispatcher: Any = self.dispatchers.get(path)
        if dispatcher is None:
            return self._writer.fault(Fault(INVALID_REQUEST, "no methods are published at this path"))
        try:
            return bytes(dispatcher._marshaled_dispatch(data, dispatch_method, path))
        except BaseException as error:
            return self._writer.fault(fault_of(error, path))
