"""Service that answers XML-RPC calls without a handler instance if possible: a handler mostly parses headers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast
from xmlrpc.client import gzip_encode

from daemons.framings.cache import HeadCache
from daemons.framings.http import Request
from daemons.rpc.refusals import PEER, RefusalError
from daemons.serving.conversation.reply import Reply
from daemons.serving.conversation.service import Talk
from daemons.serving.conversation.steps import Step
from daemons.web.dates import http_date
from daemons.web.files.negotiation import prefers_gzip
from daemons.web.handlers.mixins import class_of
from daemons.web.handlers.service import WebServer, WebService
from daemons.web.responses import ResponseCache, head

if TYPE_CHECKING:
    from daemons.accounts import Accounts
    from daemons.framings import Framing

#: Handler methods that `RPCService` replaces.  If a subclass overrides one, the handler gets every request.
OVERRIDABLE = (
    *("MessageClass", "__init__", "setup", "finish", "do_POST", "check_request", "is_rpc_path_valid", "report_404"),
    *("decode_request_content", "accept_encodings", "version_string", "date_time_string", "log_message", "log_request"),
    *("send_response", "send_response_only", "send_header", "end_headers", "flush_headers"),
)

CheckedHeads: TypeAlias = HeadCache[tuple[bool, str]]

#: Value of the Server field, which does not disclose the version of Python.
SERVER = "camelot"


class CallServer(WebServer, Protocol):
    """The interface of `daemons.rpc.xml.server.XMLRPCServer` that its service uses."""

    logRequests: bool

    @property
    def users(self) -> Accounts | None: ...
    def check_access(self, fields: Mapping[str, str]) -> str: ...
    def _marshaled_dispatch(self, data: Any, dispatch_method: Any = None, path: Any = None) -> bytes: ...


class RPCService(WebService):
    """State shared by all connections of an XML-RPC server.

    If the head of a POST has been checked before, the server's `_marshaled_dispatch` answers it.  Every other request
    is passed to the handler."""

    def __init__(
        self, framing: Framing, handler: Any, stock: Mapping[str, Any], *, always_uses_handler: bool = False
    ) -> None:
        """`stock` are the unmodified methods of `OVERRIDABLE`; with `always_uses_handler`, the handler gets every
        request."""
        super().__init__(framing, handler)
        kind: Any = class_of(handler)
        plain = not always_uses_handler and all(getattr(kind, name) is known for name, known in stock.items())
        self._handler_class = kind
        #: Whether the handler class overrides nothing that this service replaces.
        self._plain = plain and kind is handler and not hasattr(kind, "_dispatch")
        #: The version of the users file, and for each checked head whether the response may be compressed, and the
        #: user.  Both are replaced together, so that no thread adds a decision based on another version of the file.
        self._checked_heads: tuple[object, CheckedHeads] = None, HeadCache()
        #: The stock class has its own `log_request`, which does not count as an override.
        self._writes_log = any(getattr(kind, name) is not stock[name] for name in ("log_request", "log_message"))
        self._second = 0
        self._head = b""

    def talk_to(self, server: WebServer, address: Any, peer: str, is_gone: Callable[[], bool] = bool) -> Talk:
        """Serve one connection."""
        handler_talk = super().talk_to(server, address, peer, is_gone)
        next(handler_talk)
        rpc = cast("CallServer", server)
        reply: Reply | Step | None = None
        try:
            while True:
                request = cast(Request, (yield reply))
                version, checked_heads = self._checked_heads
                users = rpc.users
                if (found := users if users is None else users.version) is not version:
                    _, checked_heads = self._checked_heads = found, HeadCache()
                known = None if server.draining else checked_heads.get(request)
                if known is None and not server.draining:
                    try:
                        known = self._check_access(rpc, request, address[0], checked_heads)
                    except RefusalError as refusal:
                        # Refused here: the handler would verify the password again.
                        reply = self._refuse(request, address[0], refusal)
                        continue
                if known is None:
                    try:
                        reply = handler_talk.send(request)
                    except StopIteration as stop:
                        return cast("Reply | None", stop.value)
                else:
                    body, coded = self._coded(rpc._marshaled_dispatch(request.body, None, request.path), known[0])
                    if self.request_log is not None:
                        self.request_log.log(address[0], self.request_log.entry(request, 200, len(body), known[1]))
                    reply = b"%b%d%b\r\n\r\n%b" % (self._fields(), len(body), coded, body)
        finally:
            handler_talk.close()

    def _log_request(self, handler: Any, request: Request, status: int, size: int | None) -> None:
        if self.request_log is not None and not self._writes_log:
            user = getattr(handler, "user", "")
            handler.user = ""  # it belongs to this request only
            self.request_log.log(handler.client_address[0], self.request_log.entry(request, status, size, user))

    def _check_access(
        self, server: CallServer, request: Request, peer: str, checked_heads: CheckedHeads
    ) -> tuple[bool, str] | None:
        """Return whether the response may be compressed, and the user, and add both to `checked_heads`; return None if
        the handler must answer the request.  Raises `RefusalError`."""
        kind = self._handler_class
        if not self._plain or request.method != "POST" or request.version == (1, 0):
            return None
        if server.logRequests and self.request_log is None:
            return None
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
        if not request.keep_alive or request.path not in kind.rpc_paths or "content-encoding" in fields:
            return None
        user = server.check_access({**fields, PEER: peer})
        zips = kind.encode_threshold is not None and prefers_gzip(fields.get("accept-encoding"))
        checked_heads.put(request, (zips, user))
        return zips, user

    def _refuse(self, request: Request, peer: str, refusal: RefusalError) -> bytes:
        body = refusal.body
        if self.request_log is not None:
            self.request_log.log(peer, self.request_log.entry(request, refusal.status, len(body)))
        media = ("Content-Type", "text/plain; charset=utf-8")
        fields = [*refusal.fields, media, ("Content-Length", str(len(body)))]
        return head(request, refusal.status, ResponseCache(int(time.time())), fields) + body

    def _coded(self, body: bytes, zips: bool) -> tuple[bytes, bytes]:
        """Return the encoded body, and the Content-Encoding field with the preceding line end."""
        if zips and len(body) > self._handler_class.encode_threshold:
            return gzip_encode(body), b"\r\nContent-Encoding: gzip"
        return body, b""

    def _fields(self) -> bytes:
        """Return the head up to the length."""
        second = int(time.time())
        if second != self._second:
            self._head = (
                f"HTTP/1.1 200 OK\r\nServer: {SERVER}\r\nDate: {http_date(second)}\r\n"
                "Content-Type: text/xml\r\nContent-Length: "
            ).encode()
            self._second = second
        return self._head
