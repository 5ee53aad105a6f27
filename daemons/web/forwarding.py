"""A subtree that another server answers: a gateway, RFC 9110, sections 3.7 and 7.6.

Host is kept, so that what is behind makes links that lead here.  What it is told of the visitor, in ``X-Forwarded-For``
and its like, is ours alone: what the visitor says there is dropped, since there it would be believed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator

from daemons.framings.http import Request
from daemons.serving.service import Reply, Visitor
from daemons.web.fields import NAME
from daemons.web.places import Names
from daemons.web.reply import framed
from daemons.web.representations import WHOLE
from daemons.web.responses import BODILESS, Second, error, refuse
from daemons.web.upstream import Response, Upstream, UpstreamError

log = logging.getLogger(__name__)

#: Of one connection alone, and so not passed on (RFC 9110, section 7.6.1); and what is about the body's way.
HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authorization", "content-length"),
    )
)

#: Of a request: answered here, or said anew.  ``Proxy`` would become HTTP_PROXY, a setting of many clients
#: (https://httpoxy.org).
OURS = HOP_BY_HOP | frozenset(("expect", "forwarded", "proxy", "via", "x-real-ip"))

ALLOWED = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"

#: What this server is called in Via; and how often it may stand there before it is a circle.
PSEUDONYM, MOST_HOPS = b"camelot", 8

_VALUE = re.compile(r"[\t -~\x80-\xff]*")


class Forwarding:
    """Has what is below `prefix` answered by `upstream`."""

    def __init__(self, prefix: str, upstream: Upstream) -> None:
        self._prefix = prefix
        self._upstream = upstream

    def answer(self, request: Request, second: Second, visitor: Visitor, prefix: str, rest: Names) -> Reply:
        """What is answered to a request.  Where it comes in pieces it is a `Stream`."""
        if request.method not in ALLOWED.split(", "):
            return refuse(request, second, ALLOWED)
        fields, hops = _forwarded(request, visitor)
        if hops > MOST_HOPS:
            return error(request, 508, second)
        try:
            response = self._upstream.ask(request.method, request.path, fields, request.body)
        except UpstreamError as failure:
            return self._failed(request, second, visitor, failure)
        try:
            return self._passed_on(request, second, response)
        except UpstreamError as failure:
            response.close()
            return self._failed(request, second, visitor, failure)
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Close the connections that are kept."""
        self._upstream.close()

    def _failed(self, request: Request, second: Second, visitor: Visitor, failure: UpstreamError) -> bytes:
        log.warning("%s: %s: the server at %s: %s", visitor.peer, self._prefix, self._upstream, failure)
        return error(request, failure.status, second)

    def _passed_on(self, request: Request, second: Second, response: Response) -> Reply:
        lines = _head(second, response)
        length = response.left
        if request.method == "HEAD" or response.status in BODILESS:
            # What GET would have: Content-Length is about that.
            lines += {
                f"Content-Length: {value}"
                for name, value in response.fields
                if _announces(name, value, response.status)
            }
            for _ in response.pieces():
                pass
            return _ended(lines, request, closes=False)
        chunked = length is None and request.version != (1, 0)
        closes = length is None and not chunked
        if length is not None:
            lines.append(f"Content-Length: {length}")
        elif chunked:
            lines.append("Transfer-Encoding: chunked")
        head = _ended(lines, request, closes=closes)
        if length is not None and length <= WHOLE:
            return head + b"".join(response.pieces())
        told = response.status, length
        return Stream(response, framed(head, response.pieces(), length, chunked), told, closes=closes)


class Stream(Iterator[bytes]):
    """An answer that is passed on as it comes."""

    def __init__(
        self,
        response: Response,
        pieces: Generator[bytes, None, None],
        told: tuple[int, int | None],
        *,
        closes: bool,
    ) -> None:
        self._response = response
        #: For the log: the status, and the octets of the body.
        self.told = told
        self._pieces = pieces
        #: Whether its end is that of the connection.
        self.closes = closes

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """At the end, or when the visitor has left before it."""
        self._pieces.close()
        self._response.close()


def _forwarded(request: Request, visitor: Visitor) -> tuple[list[tuple[bytes, bytes]], int]:
    """The fields for the server behind, and how often this request has been here."""
    named = _connection_options(
        value.decode("latin-1") for name, value in request.headers if name.lower() == b"connection"
    )
    fields: list[tuple[bytes, bytes]] = []
    via: list[bytes] = []
    host = b""
    for name, value in request.headers:
        word = name.decode("ascii").lower()
        if word == "via":
            via.append(value)
        elif word == "host":
            host = value
            fields.append((name, value))
        # With an underscore, X_Forwarded_For is HTTP_X_FORWARDED_FOR to many, as the one that is believed is.
        elif word not in OURS and word not in named and not word.startswith("x-forwarded-") and "_" not in word:
            fields.append((name, value))
    major, minor = request.version
    hops = sum(each.count(PSEUDONYM) for each in via)
    fields.append((b"Via", b", ".join((*via, b"%d.%d %b" % (major, minor, PSEUDONYM)))))
    if not host:
        fields.append((b"Host", b"localhost"))  # HTTP/1.0 may be without, and 1.1 may not
    else:
        fields.append((b"X-Forwarded-Host", host))
    if visitor.host != "unix":
        fields.append((b"X-Forwarded-For", visitor.host.encode("ascii", "replace")))
    fields.append((b"X-Forwarded-Proto", b"https" if visitor.secure else b"http"))
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        fields.append((b"Content-Length", b"%d" % len(request.body)))
    return fields, hops


def _head(second: Second, response: Response) -> list[str]:
    """The status line and the fields of an answer, without those of one connection.  Raises `UpstreamError` for what
    must not be said."""
    named = _connection_options(value for name, value in response.fields if name.lower() == "connection")
    reason = response.reason if _VALUE.fullmatch(response.reason) else ""
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    dated = False
    if len({value for name, value in response.fields if name.lower() == "content-length"}) > 1:
        raise UpstreamError(502, "two lengths in one answer")
    for name, value in response.fields:
        word = name.lower()
        if not (NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise UpstreamError(502, "a field of its answer has a control character, or is folded")
        if word == "transfer-encoding" and value.lower() != "chunked":
            raise UpstreamError(502, "a Transfer-Encoding other than chunked")
        dated |= word == "date"
        if second.private and word in ("cache-control", "expires"):
            continue
        if word not in HOP_BY_HOP and word not in named:
            lines.append(f"{name}: {value}")
    if not dated:
        lines.append(f"Date: {second.date}")
    if second.private:
        lines.append("Cache-Control: private, no-cache")
    return lines


def _announces(name: str, value: str, status: int) -> bool:
    """Whether a field tells the length of what is not sent; a 204 has none."""
    return name.lower() == "content-length" and value.isdecimal() and status != 204


def _ended(lines: list[str], request: Request, *, closes: bool) -> bytes:
    """A complete head."""
    if closes or not request.keep_alive:
        lines.append("Connection: close")
    elif request.version == (1, 0):
        lines.append("Connection: keep-alive")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1")


def _connection_options(values: Iterator[str]) -> set[str]:
    """The fields that Connection names, in small letters."""
    return {word for value in values for part in value.split(",") if (word := part.strip(" \t").lower())}
