"""Request heads as handlers of ``http.server`` expect them, parsed once for identical heads."""

from __future__ import annotations

from email.message import Message
from typing import TYPE_CHECKING, NamedTuple

from daemons.framings.cache import HeadCache

if TYPE_CHECKING:
    from daemons.framings.http import Request

#: Fields of the transfer coding, which handlers do not see: they are given the decoded body.
FRAMING = frozenset(("transfer-encoding", "trailer"))


class Head(NamedTuple):
    """A request's head, as the attributes that `BaseHTTPRequestHandler.parse_request` sets."""

    command: str
    path: str
    version: str
    line: str
    raw_line: bytes
    fields: list[tuple[str, str]]
    #: Whether the body was chunked, so that `fields` lack its length.
    chunked: bool


class Heads:
    """Cache of request heads."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: HeadCache[Head] = HeadCache()

    def of(self, request: Request) -> Head:
        """Return the head of `request`."""
        head = self._known.get(request)
        if head is None:
            head = _head(request)
            self._known.put(request, head)
        return head


def _head(request: Request) -> Head:
    raw_line = request[: request.index(b"\n") + 1]
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
    chunked = any(name.lower() == "transfer-encoding" for name, _ in fields)
    if chunked:
        fields = [(name, value) for name, value in fields if name.lower() not in FRAMING]
    path = request.path
    if path.startswith("//"):
        # As the stock class: a redirect to //host/path would lead to another host.
        path = "/" + path.lstrip("/")
    major, minor = request.version
    version = f"HTTP/{major}.{minor}"
    return Head(request.method, path, version, raw_line.rstrip(b"\r\n").decode("latin-1"), raw_line, fields, chunked)


class Messages:
    """Creates the `headers` of requests, instances of the handler's `MessageClass`, without parsing."""

    __slots__ = ("_empty", "_kind")

    def __init__(self, kind: type[Message]) -> None:
        self._kind = kind
        self._empty = vars(kind())

    def make(self, head: Head, length: int) -> Message:
        """Return a message with the fields of `head`, and for a chunked body with its `length` in bytes."""
        message = object.__new__(self._kind)
        made = vars(message)
        made.update(self._empty)
        made["_headers"] = fields = head.fields.copy()
        made["defects"] = []
        if head.chunked:
            fields.append(("Content-Length", str(length)))
        return message
