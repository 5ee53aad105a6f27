"""``jsonrpc = MODULE`` in an ini: the functions of a module, called by JSON-RPC 2.0, over HTTP or one call a line."""

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
from daemons.rpc.refusals import PEER, RefusalError, check_visitor
from daemons.rpc.users import USERS
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.service import Peer, Reply, Service, Talk
from daemons.settings.values import COUNT, YES_NO, FieldType, setting, word
from daemons.web.responses import CONTINUE, Fields, SecondCache, head

#: The name under which a client finds out what there is: spec.open-rpc.org, "Service Discovery Method".
DISCOVER = "rpc.discover"

#: Media types of a call.  The last is what curl -d says; and a script of another site may send that without asking, so
#: that it is by Origin that these are known.
MEDIA = frozenset(
    (
        "",
        "application/json",
        "application/json-rpc",
        "application/jsonrequest",
        "application/x-www-form-urlencoded",
    )
)

#: Octets of a call or a batch, unless [limits] body says otherwise: by that, what they can take to be read is bounded.
LONGEST = 256 * 1024

#: What begins a request of HTTP.  Who sends that where calls come one a line is a browser, led here by a page: calls in
#: the body of its form are not to be heard.
_REQUEST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/\d.*")


def _path(text: str) -> str:
    if not re.fullmatch(r"/[!\"$-~]*", text):
        raise ValueError("not the path of a URL; write / or /rpc")
    return text


PATH: FieldType[str] = FieldType(_path, str, "path")


def check_call(method: str, fields: Mapping[str, str], *, documents: bool) -> None:
    """Raises `RefusalError` for a request that can be none of JSON-RPC: by its method, or by what its body is.  GET is
    one where what can be called is told."""
    if method in ("GET", "HEAD") and documents:
        return
    if method != "POST":
        allowed = ("Allow", "GET, HEAD, POST" if documents else "POST")
        raise RefusalError(405, "Calls are sent by POST.", allowed)
    if fields.get("content-type", "").partition(";")[0].strip().lower() not in MEDIA:
        raise RefusalError(415, "That is no JSON; application/json is expected.")
    if fields.get("content-encoding", "identity") != "identity":
        raise RefusalError(415, "That is packed; JSON as it is is expected.", ("Accept-Encoding", "identity"))


class JSONRPC(Service):
    """Publishes methods; subclasses are made by `of`."""

    greets = False
    methods: ClassVar[Methods]
    #: What it is called, and what it says of itself.
    title: ClassVar[str]
    about: ClassVar[str]
    version: ClassVar[str]

    @dataclass(frozen=True)
    class Options:
        """The section [jsonrpc]."""

        framing: str = setting(word("http", "lines"), "http", "how calls come: by POST, or one on each line")
        path: str = setting(PATH, "/", "over HTTP, where calls are answered; elsewhere is 404")
        batch: int = setting(COUNT, calls.BATCH, "the most calls in a batch")
        depth: int = setting(COUNT, codec.DEPTH, "the most brackets within each other")
        discover: bool = setting(YES_NO, True, "tell what can be called: rpc.discover, and GET")
        users: Accounts | None = setting(USERS, None, "over HTTP, the users file; by default every peer may call")  # noqa: RUF009, it is frozen

    options: Options

    @classmethod
    def of(cls, origin: ModuleType | object, title: str) -> type[JSONRPC]:
        """The service that publishes what `origin` does.  Raises as `Methods.of`."""
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
        #: What can be called, as an OpenRPC document.
        self._document = document(self.title, self.about, self.version, published)
        if options.discover:
            published.append(Method.of(lambda: self._document, DISCOVER))
        self._calls = calls.Calls({each.name: each for each in published}, batch=options.batch, depth=options.depth)
        self._second = SecondCache(0)
        #: What is true for this second of answers to POST: up to the length, by whether the connection is kept.
        self._begun: dict[bool, bytes] = {}
        #: The state of the users file, and from heads to why they are refused, or to the user who calls.  Together: a
        #: thread that has judged by another state of the file must not leave its verdict here.
        self._verdicts: tuple[object, HeadCache[RefusalError | str]] = None, HeadCache()

    def talk(self) -> Talk:
        """Answer call after call, until the connection is to be closed."""
        return self._answer_all("")

    def talk_with(self, visitor: Peer) -> Talk:
        return self._answer_all(visitor.host)

    def _answer_all(self, host: str) -> Talk:
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
            reply = CONTINUE if request.expects else self._answer(request, host)
            if not request.keep_alive:
                return reply

    def apology(self, ending: Ending) -> bytes:
        """What is wrong with a request of HTTP, its error says; a line that is too long is no call."""
        return b"" if self._over_http else calls.error(calls.PARSE_ERROR).encode("ascii") + b"\n"

    def _answer(self, request: Request, host: str) -> bytes:
        now = int(time())
        if self._second.now != now:
            self._second = SecondCache(now)
            self._begun = {}
        version, verdicts = self._verdicts
        users = self.options.users
        if (found := users if users is None else users.version) is not version:
            _, verdicts = self._verdicts = found, HeadCache()
        verdict = verdicts.get(request)
        if verdict is None:
            verdict = self._judge(request, host, verdicts)
        if isinstance(verdict, RefusalError):
            media = "text/plain; charset=utf-8"
            return self._say(request, (host, ""), verdict.status, verdict.body, media, verdict.fields)
        who = host, verdict
        if request.method != "POST":
            described = codec.write(self._document)
            return self._say(request, who, 200, described.encode("ascii"), "application/json")
        answer = self._calls.answer(request.body)
        if answer is None:
            self._tell(request, who, 204, 0)
            return head(request, 204, self._second, [])
        body = answer.encode("ascii")
        if request.version != (1, 1):
            return self._say(request, who, 200, body, "application/json")
        begun = self._begun.get(request.keep_alive)
        if begun is None:
            media_fields = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Content-Length", "")]
            fixed = head(request, 200, self._second, media_fields).split(b"Content-Length: \r\n")
            # The length comes last.
            begun = self._begun[request.keep_alive] = b"".join(fixed)[:-2] + b"Content-Length: "
        self._tell(request, who, 200, len(body))
        return b"%b%d\r\n\r\n%b" % (begun, len(body), body)

    def _tell(self, request: Request, who: tuple[str, str], status: int, size: int) -> None:
        """The line of a request in the log; `who` are the host and the user."""
        if self.requests is not None:
            self.requests.tell(who[0], self.requests.entry(request, status, size, who[1]))

    def _judge(self, request: Request, host: str, verdicts: HeadCache[RefusalError | str]) -> RefusalError | str:
        """Return why a request is refused, or the user who calls, nothing where every peer may.  It is added to
        `verdicts`, unless the throttle must know of the next such request."""
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
        fields[PEER] = host
        verdict: RefusalError | str
        try:
            if request.path.partition("?")[0] != self.options.path:
                raise RefusalError(404, "No such page")
            users = self.options.users
            # A page that was led here by a name of its own knows no secret.
            verdict = check_visitor(fields, users, self.title, named=users is not None)
            check_call(request.method, fields, documents=self.options.discover)
        except RefusalError as refusal:
            verdict = refusal.with_traceback(None)  # in whose frames the request is
            if refusal.status in (401, 503):
                return verdict
        verdicts.put(request, verdict)
        return verdict

    def _say(
        self, request: Request, who: tuple[str, str], status: int, body: bytes, media: str, fields: Fields = ()
    ) -> bytes:
        more = [*fields, ("Content-Type", media), ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
        said = head(request, status, self._second, more)
        if request.method == "HEAD":
            body = b""
        self._tell(request, who, status, len(body))
        return said + body
