"""What is said to calls, without making a handler where none is needed: most of a handler's time is in its headers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast
from xmlrpc.client import gzip_encode

from daemons.framings.cache import HeadCache
from daemons.framings.http import Request
from daemons.rpc.refusals import PEER, RefusalError
from daemons.serving.conversation.service import Reply, Talk
from daemons.web.dates import written
from daemons.web.files.negotiation import prefers_gzip
from daemons.web.handlers.mixins import class_of
from daemons.web.handlers.service import WebServer, WebService
from daemons.web.responses import SecondCache, head

if TYPE_CHECKING:
    from daemons.accounts import Accounts
    from daemons.framings import Framing

#: With another method of its own in the place of one of these, a handler is asked.
ASKED = (
    *("MessageClass", "__init__", "setup", "finish", "do_POST", "may_come_in", "is_rpc_path_valid", "report_404"),
    *("decode_request_content", "accept_encodings", "version_string", "date_time_string", "log_message", "log_request"),
    *("send_response", "send_response_only", "send_header", "end_headers", "flush_headers"),
)

Judged: TypeAlias = HeadCache[tuple[bool, str]]

#: What Server says; which Python that is, is nobody's business.
SERVER = "camelot"


class CallServer(WebServer, Protocol):
    """The server of XML-RPC, `daemons.rpc.xml.server.XMLRPCServer`, as its service sees it."""

    logRequests: bool

    @property
    def users(self) -> Accounts | None: ...
    def check_visitor(self, fields: Mapping[str, str]) -> str: ...
    def _marshaled_dispatch(self, data: Any, dispatch_method: Any = None, path: Any = None) -> bytes: ...


class RPCService(WebService):
    """What all visitors of an RPC share.  A POST whose head was judged before is answered here, and what it says goes
    to the server's `_marshaled_dispatch`; every other request gets to the handler."""

    def __init__(
        self, framing: Framing, handler: Any, as_shipped: Mapping[str, Any], *, always_asks: bool = False
    ) -> None:
        """`as_shipped` are the methods of `ASKED` that are known here; with `always_asks` the handler gets every
        request all the same."""
        super().__init__(framing, handler)
        kind: Any = class_of(handler)
        plain = not always_asks and all(getattr(kind, name) is known for name, known in as_shipped.items())
        self._handler_class = kind
        #: Whether handlers do nothing but what we know.
        self._plain = plain and kind is handler and not hasattr(kind, "_dispatch")
        #: The state of the users file, and the heads of POSTs that may be answered then: whether the answer may be
        #: gzipped, and the user.  Together: a thread that has judged by another state must not leave its verdict here.
        self._judged: tuple[object, Judged] = None, HeadCache()
        #: The stock class has a `log_request` of its own, which does not count.
        self._writes_log = any(getattr(kind, name) is not as_shipped[name] for name in ("log_request", "log_message"))
        self._second = 0
        self._head = b""

    def talk_to(self, server: WebServer, address: Any, peer: str, is_gone: Callable[[], bool] = bool) -> Talk:
        """The conversation with one visitor."""
        asked = super().talk_to(server, address, peer, is_gone)
        next(asked)
        rpc = cast("CallServer", server)
        reply: Reply | None = None
        try:
            while True:
                request = cast(Request, (yield reply))
                version, judged = self._judged
                users = rpc.users
                if (found := users if users is None else users.version) is not version:
                    _, judged = self._judged = found, HeadCache()
                known = None if server.draining else judged.get(request)
                if known is None and not server.draining:
                    try:
                        known = self._judge(rpc, request, address[0], judged)
                    except RefusalError as refusal:
                        # Not by the handler, which would verify the password once more.
                        reply = self._refuse(request, address[0], refusal)
                        continue
                if known is None:
                    try:
                        reply = asked.send(request)
                    except StopIteration as stop:
                        return cast("Reply | None", stop.value)
                else:
                    body, coded = self._coded(rpc._marshaled_dispatch(request.body, None, request.path), known[0])
                    if self.requests is not None:
                        self.requests.tell(address[0], self.requests.entry(request, 200, len(body), known[1]))
                    reply = b"%b%d%b\r\n\r\n%b" % (self._fields(), len(body), coded, body)
        finally:
            asked.close()

    def _tell(self, handler: Any, request: Request, status: int, size: int | None) -> None:
        if self.requests is not None and not self._writes_log:
            user = getattr(handler, "user", "")
            handler.user = ""  # it is this request's
            self.requests.tell(handler.client_address[0], self.requests.entry(request, status, size, user))

    def _judge(self, server: CallServer, request: Request, peer: str, judged: Judged) -> tuple[bool, str] | None:
        """Return whether the response to `request` may be gzipped, and the user who calls, and add them to `judged`;
        None: the request is for the handler.  Raises `RefusalError`."""
        kind = self._handler_class
        if not self._plain or request.method != "POST" or request.version == (1, 0):
            return None
        if server.logRequests and self.requests is None:
            return None
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
        if not request.keep_alive or request.path not in kind.rpc_paths or "content-encoding" in fields:
            return None
        user = server.check_visitor({**fields, PEER: peer})
        zips = kind.encode_threshold is not None and prefers_gzip(fields.get("accept-encoding"))
        judged.put(request, (zips, user))
        return zips, user

    def _refuse(self, request: Request, peer: str, refusal: RefusalError) -> bytes:
        body = refusal.body
        if self.requests is not None:
            self.requests.tell(peer, self.requests.entry(request, refusal.status, len(body)))
        media = ("Content-Type", "text/plain; charset=utf-8")
        fields = [*refusal.fields, media, ("Content-Length", str(len(body)))]
        return head(request, refusal.status, SecondCache(int(time.time())), fields) + body

    def _coded(self, body: bytes, zips: bool) -> tuple[bytes, bytes]:
        """The body as it is sent, and the field that tells how."""
        if zips and len(body) > self._handler_class.encode_threshold:
            return gzip_encode(body), b"\r\nContent-Encoding: gzip"
        return body, b""

    def _fields(self) -> bytes:
        """The head up to the length."""
        second = int(time.time())
        if second != self._second:
            self._head = (
                f"HTTP/1.1 200 OK\r\nServer: {SERVER}\r\nDate: {written(second)}\r\n"
                "Content-Type: text/xml\r\nContent-Length: "
            ).encode()
            self._second = second
        return self._head
