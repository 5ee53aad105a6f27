"""`xmlrpc.server.SimpleXMLRPCServer`, hardened: a `WebServer` whose requests are calls."""

from __future__ import annotations

import socketserver
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from daemons.rpc.refusals import PEER, RefusalError, check_visitor, unpacked
from daemons.rpc.xml.dispatcher import NOT_TO_BE_DONE, Dispatcher, fault_of
from daemons.rpc.xml.documentation import POLICY, page
from daemons.rpc.xml.service import ASKED, SERVER, RPCService
from daemons.web.files.negotiation import prefers_gzip
from daemons.web.handlers.server import WebServer

if TYPE_CHECKING:
    from daemons.accounts import Accounts
    from daemons.web.handlers.service import WebService


class XMLRPCRequestHandler(SimpleXMLRPCRequestHandler):
    """POST is a call; GET, where the server documents itself, is a page about it.  To be subclassed as the stock class
    is: `rpc_paths`, `encode_threshold` and `decode_request_content` mean what they mean there."""

    server: XMLRPCServer
    #: Who calls, where he was asked; of the request that is being answered.
    user = ""
    rpc_paths: ClassVar[Any] = ("/", "/RPC2")

    def do_POST(self) -> None:
        """Answer a call."""
        if self.may_come_in():
            super().do_POST()

    def do_GET(self) -> None:
        """Show what can be called."""
        if not self.may_come_in():
            return
        if not self.server.documents:
            self._say(405, b"Calls are sent by POST.\n", ("Allow", "POST"))
            return
        where = f"http{'s' * (self.server.tls is not None)}://{self.headers.get('host', 'localhost')}{self.path}"
        self._say(200, self.server.documentation(where), ("Content-Security-Policy", POLICY), media="text/html")

    do_HEAD = do_GET

    def decode_request_content(self, data: bytes) -> bytes | None:
        """Return the body without its content coding; None if it is refused, after the response has been sent.  No more
        is unpacked than may be sent without a coding.  The stock method repeats the name of an unknown coding in the
        status line."""
        try:
            match self.headers.get("content-encoding", "identity").lower():
                case "identity":
                    return data
                case "gzip":
                    return unpacked(data, getattr(self.server.framing, "body", 1024**2))
            raise RefusalError(501, "Not Implemented: the content coding is neither gzip nor identity.")
        except RefusalError as error:
            self._refuse(error)
            return None

    def accept_encodings(self) -> dict[str, float]:
        """Return gzip with its weight if the client prefers it.  The stock method fails, after the call, for a weight
        such as 1.2.3."""
        return {"gzip": 1.0} if prefers_gzip(self.headers.get("accept-encoding")) else {}

    def report_404(self) -> None:
        """No such page."""
        self._say(404, b"No such page\n")

    def may_come_in(self) -> bool:
        """Whether the request is for an RPC, and from somebody who may call it; who may not has been told."""
        if not self.is_rpc_path_valid():
            self.report_404()
            return False
        try:
            fields = {name.lower(): value for name, value in self.headers.items()}
            self.user = self.server.check_visitor({**fields, PEER: self.client_address[0]})
        except RefusalError as error:
            self._refuse(error)
            return False
        return True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """As the stock method; where the daemon writes a line for each request, nothing."""
        if not getattr(self, "logged_in_memory", False):
            super().log_request(code, size)

    def version_string(self) -> str:
        """Which Python this is, is nobody's business."""
        return SERVER

    def _refuse(self, error: RefusalError) -> None:
        self._say(error.status, error.body, *error.fields)

    def _say(self, status: int, body: bytes, *fields: tuple[str, str], media: str = "text/plain") -> None:
        self.send_response(status)
        for name, value in (*fields, ("Content-Type", f"{media}; charset=utf-8"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


_AS_SHIPPED = {name: getattr(XMLRPCRequestHandler, name) for name in ASKED}


class _Beneath(SimpleXMLRPCServer):
    """The stock server as it stands behind `WebServer`, whose constructor it has there."""

    def __init__(self, address: Any, handler: Callable[..., Any], bind_and_activate: bool = True) -> None:
        socketserver.TCPServer.__init__(self, address, handler, bind_and_activate)


class XMLRPCServer(Dispatcher, WebServer, _Beneath):
    """A server of XML-RPC on one listener, with the stock constructor and the stock methods.  Mix an engine in front of
    it: ``class MyServer(Loop, XMLRPCServer)``.  Where no daemon writes a line for each request, `logRequests` does."""

    #: What it is called, on its page and to who is asked for a password.
    title = "XML-RPC"
    #: What the page says of it.
    about = ""
    #: Whether GET shows what can be called.
    documents = False
    #: Who may call; None: everybody.
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
        """What runs `handler` in memory, or does without it."""
        asks = type(self).check_visitor is not XMLRPCServer.check_visitor
        service = RPCService(self.framing, handler, _AS_SHIPPED, always_asks=asks)
        service.blocks = self.users is not None and self.users.slow
        return service

    def check_visitor(self, fields: Mapping[str, str]) -> str:
        """Return the user who calls, or nothing where every peer may call.  `fields` are those of its request, by names
        in small letters, and its IP address, as `PEER`.  Raises `RefusalError` for one that may not."""
        return check_visitor(fields, self.users, self.title, scripts=False)

    def documentation(self, where: str) -> bytes:
        """The page for people: what can be called at the URL `where`."""
        return page(self.title, self.about, where, self.published())


class MultiPathXMLRPCServer(XMLRPCServer):
    """`xmlrpc.server.MultiPathXMLRPCServer`: a dispatcher for each path."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.dispatchers: dict[str, SimpleXMLRPCDispatcher] = {}

    def add_dispatcher(self, path: str, dispatcher: SimpleXMLRPCDispatcher) -> SimpleXMLRPCDispatcher:
        """Have `dispatcher` answer at `path`, to which the handler's `rpc_paths` must lead."""
        self.dispatchers[path] = dispatcher
        return dispatcher

    def get_dispatcher(self, path: str) -> SimpleXMLRPCDispatcher:
        """Who answers there.  Raises `KeyError`."""
        return self.dispatchers[path]

    def _marshaled_dispatch(self, data: Any, dispatch_method: Any = None, path: Any = None) -> bytes:  # type: ignore[override]
        dispatcher: Any = self.dispatchers.get(path)
        if dispatcher is None:
            return self._writer.fault(Fault(NOT_TO_BE_DONE, "nothing is called here"))
        try:
            return bytes(dispatcher._marshaled_dispatch(data, dispatch_method, path))
        except BaseException as error:
            return self._writer.fault(fault_of(error, path))
