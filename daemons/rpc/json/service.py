"""``jsonrpc = MODULE`` in an ini: functions of a module, published by JSON-RPC 2.0 over HTTP or as lines over TCP."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from types import ModuleType
from typing import Any, ClassVar, cast

from daemons.accounts import Accounts
from daemons.framings import Lines
from daemons.framings.cache import HeadCache
from daemons.framings.http import HTTP, Request
from daemons.rpc.json import calls, codec
from daemons.rpc.json.schema import document
from daemons.rpc.methods import Method, Methods
from daemons.rpc.refusals import PEER, RefusalError, check_access
from daemons.rpc.users import USERS
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import Reply, Service, Talk
from daemons.settings.values import COUNT, YES_NO, FieldType, choice, setting
from daemons.web.responses import CONTINUE, Fields, ResponseCache, head

#: Name of the method that returns the OpenRPC document: spec.open-rpc.org, "Service Discovery Method".
DISCOVER = "rpc.discover"

#: Media types of a call.  The last is curl -d's default.  Scripts of other sites may send it without a preflight, so
#: they are recognized by Origin.
MEDIA = frozenset(
    (
        "",
        "application/json",
        "application/json-rpc",
        "application/jsonrequest",
        "application/x-www-form-urlencoded",
    )
)

#: Default maximum bytes of a call or a batch ([limits] body); it bounds the time to parse one.
LONGEST = 256 * 1024

#: An HTTP request line.  Where calls are lines, it comes from a browser that a form on a web page has directed here.
#: Calls in the body of the form must not be executed.
_REQUEST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/\d.*")


def _path(text: str) -> str:
    if not re.fullmatch(r"/[!\"$-~]*", text):
        raise ValueError("not the path of a URL; write / or /rpc")
    return text


PATH: FieldType[str] = FieldType(_path, str, "path")


def check_call(method: str, fields: Mapping[str, str], *, documents: bool) -> None:
    """Raise `RefusalError` for a request that cannot be a JSON-RPC call, by its method or its content type.  With
    `documents`, GET and HEAD are allowed."""
    if method in ("GET", "HEAD") and documents:
        return
    if method != "POST":
        allowed = ("Allow", "GET, HEAD, POST" if documents else "POST")
        raise RefusalError(405, "Method Not Allowed: calls are sent by POST.", allowed)
    if fields.get("content-type", "").partition(";")[0].strip().lower() not in MEDIA:
        raise RefusalError(415, "Unsupported Media Type: application/json is expected.")
    if fields.get("content-encoding", "identity") != "identity":
        text = "Unsupported Media Type: a body without content coding is expected."
        raise RefusalError(415, text, ("Accept-Encoding", "identity"))


class JSONRPC(Service):
    """Service that publishes methods.  Subclasses are created by `of`."""

    greets = False
    methods: ClassVar[Methods]
    #: Title and description in the OpenRPC document.
    title: ClassVar[str]
    about: ClassVar[str]
    version: ClassVar[str]

    @dataclass(frozen=True)
    class Options:
        """The section [jsonrpc]."""

        framing: str = setting(
            choice("http", "lines"), "http", "Transport of calls: POST requests, or one call per line."
        )
        path: str = setting(PATH, "/", "Over HTTP, the URL path of calls; other paths are 404.")
        batch: int = setting(COUNT, calls.MAX_CALLS, "Maximum number of calls in a batch.")
        depth: int = setting(COUNT, codec.DEPTH, "Maximum nesting depth of brackets.")
        discover: bool = setting(YES_NO, True, "Publish the OpenRPC document: rpc.discover, and GET.")
        users: Accounts | None = setting(USERS, None, "Over HTTP, the users file; by default every peer may call.")  # noqa: RUF009, it is frozen

    options: Options

    @classmethod
    def of(cls, origin: ModuleType | object, title: str) -> type[JSONRPC]:
        """Return the service that publishes the methods of `origin`.  Raises as `Methods.of`."""
        home: Any = origin if isinstance(origin, ModuleType) else type(origin)
        about = (inspect.getdoc(home) or "").partition("\n")[0]
        attributes = {
            "__module__": home.__name__ if isinstance(origin, ModuleType) else home.__module__,
            "methods": Methods.of(origin),
            "title": title,
            "about": about,
            "version": str(getattr(home, "__version__", "1")),
        }
        return type("JSONRPC", (cls,), attributes)

    def __init__(self, options: Options | None = None) -> None:
        options = options or self.Options()
        self._over_http = options.framing == "http"
        if options.users is not None and not self._over_http:
            raise TypeError("users: calls on lines carry no credentials; write framing = http")
        if options.users is not None and options.users.slow:
            self.blocks = "scrypt in its users file"
        self.framing = HTTP(body=LONGEST) if self._over_http else Lines(limit=LONGEST)
        super().__init__(options)
        published = list(self.methods.values())
        #: The OpenRPC document.
        self._document = document(self.title, self.about, self.version, published)
        if options.discover:
            published.append(Method.of(lambda: self._document, DISCOVER))
        self._calls = calls.Calls({each.name: each for each in published}, batch=options.batch, depth=options.depth)
        self._second = ResponseCache(0)
        #: Head of a 200 response up to the length, valid for the current second, by whether the connection is kept.
        self._begun: dict[bool, bytes] = {}
        #: The version of the users file, and the access decision for each head: a refusal, or the user's name.  Both
        #: are replaced together, so that no thread adds a decision based on another version of the file.
        self._verdicts: tuple[object, HeadCache[RefusalError | str]] = None, HeadCache()

    def talk(self, peer: Peer) -> Talk:
        """Answer calls until the connection is closed."""
        reply: Reply | None = None
        if not self._over_http:
            while True:
                line = yield reply
                text = self._calls.answer(line)
                reply = None if text is None else text.encode("ascii")
                if _REQUEST_LINE.fullmatch(line):
                    return reply
        while True:
            request = cast(Request, (yield reply))
            reply = CONTINUE if request.expects else self._answer(request, peer.host)
            if not request.keep_alive:
                return reply

    def apology(self, ending: Ending) -> bytes:
        """Return the response to a line above the limit.  For HTTP, the framing's error has the response."""
        return b"" if self._over_http else calls.error(calls.PARSE_ERROR).encode("ascii") + b"\n"

    def _answer(self, request: Request, host: str) -> bytes:
        now = int(time())
        if self._second.now != now:
            self._second = ResponseCache(now)
            self._begun = {}
        version, verdicts = self._verdicts
        users = self.options.users
        if (found := users if users is None else users.version) is not version:
            _, verdicts = self._verdicts = found, HeadCache()
        verdict = verdicts.get(request)
        if verdict is None:
            verdict = self._check_access(request, host, verdicts)
        if isinstance(verdict, RefusalError):
            media = "text/plain; charset=utf-8"
            return self._respond(request, (host, ""), verdict.status, verdict.body, media, verdict.fields)
        caller = host, verdict
        if request.method != "POST":
            described = codec.write(self._document)
            return self._respond(request, caller, 200, described.encode("ascii"), "application/json")
        answer = self._calls.answer(request.body)
        if answer is None:
            self._log_request(request, caller, 204, 0)
            return head(request, 204, self._second, [])
        body = answer.encode("ascii")
        if request.version != (1, 1):
            return self._respond(request, caller, 200, body, "application/json")
        begun = self._begun.get(request.keep_alive)
        if begun is None:
            media_fields = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Content-Length", "")]
            fixed = head(request, 200, self._second, media_fields).split(b"Content-Length: \r\n")
            # The length follows, so Content-Length is moved to the end.
            begun = self._begun[request.keep_alive] = b"".join(fixed)[:-2] + b"Content-Length: "
        self._log_request(request, caller, 200, len(body))
        return b"%b%d\r\n\r\n%b" % (begun, len(body), body)

    def _log_request(self, request: Request, caller: tuple[str, str], status: int, size: int) -> None:
        """Log one request; `caller` is the host and the user's name."""
        if self.request_log is not None:
            self.request_log.log(caller[0], self.request_log.entry(request, status, size, caller[1]))

    def _check_access(self, request: Request, host: str, verdicts: HeadCache[RefusalError | str]) -> RefusalError | str:
        """Return the refusal of a request, or the name of the user, "" if every peer may call.  The result is added to
        `verdicts`, except for 401 and 503, since the throttle must count each attempt."""
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
        fields[PEER] = host
        verdict: RefusalError | str
        try:
            if request.path.partition("?")[0] != self.options.path:
                raise RefusalError(404, "Not Found: no resource at this path.")
            users = self.options.users
            # With authentication any host name is allowed: a page using DNS rebinding has no password.
            verdict = check_access(fields, users, self.title, named=users is not None)
            check_call(request.method, fields, documents=self.options.discover)
        except RefusalError as refusal:
            verdict = refusal.with_traceback(None)  # the frames of the traceback refer to the request
            if refusal.status in (401, 503):
                return verdict
        verdicts.put(request, verdict)
        return verdict

    def _respond(
        self, request: Request, caller: tuple[str, str], status: int, body: bytes, media: str, fields: Fields = ()
    ) -> bytes:
        more = [*fields, ("Content-Type", media), ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
        response_head = head(request, status, self._second, more)
        if request.method == "HEAD":
            body = b""
        self._log_request(request, caller, status, len(body))
        return response_head + body
