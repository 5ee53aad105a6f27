"""Forwards requests to upstream servers: a gateway, RFC 9110, sections 3.7 and 7.6.

Host is forwarded unchanged, so that links in responses lead to this server.  ``X-Forwarded-For`` and similar fields are
set here; those of the client are dropped, since the upstream server would trust them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterable, Iterator

from daemons.framings.http import Request, ResponseHead
from daemons.framings.http.grammar import list_members
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import Reply, ReplyCutShort
from daemons.web.files.representations import WHOLE
from daemons.web.gateway.exchange import Exchange, UpstreamError
from daemons.web.gateway.upstream import Upstream
from daemons.web.responses import BODILESS, ResponseCache, error, refuse_method
from daemons.web.site.prefix_map import Names, decoded

log = logging.getLogger(__name__)

#: Fields of one connection, which are not forwarded (RFC 9110, section 7.6.1), and those that delimit the body.
HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization", b"content-length"),
    )
)

#: Request fields that are not forwarded: handled or set here, and ``Proxy``, which would become HTTP_PROXY, a setting
#: of many HTTP clients (https://httpoxy.org).
NOT_FORWARDED = HOP_BY_HOP | frozenset((b"expect", b"forwarded", b"proxy", b"via", b"x-real-ip"))

#: Request fields that some frameworks trust instead of the target, the host or the client's address.  A client that
#: sets one could reach a path that `[protected]` has not checked.
OVERRIDE_FIELDS = frozenset(
    (
        *(b"x-original-url", b"x-original-uri", b"x-rewrite-url", b"x-script-name", b"x-envoy-original-path"),
        *(b"x-host", b"x-original-host", b"x-scheme", b"x-url-scheme", b"front-end-https"),
        *(b"client-ip", b"true-client-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-original-forwarded-for"),
    )
)

#: Response fields that control caches, besides those for one kind of cache, as CDN-Cache-Control (RFC 9213), which take
#: precedence over Cache-Control.
_CACHING = frozenset((b"cache-control", b"expires", b"surrogate-control"))

ALLOWED = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"

#: This server's name in Via, and how often it may occur there before the request counts as looping.
PSEUDONYM, MOST_HOPS = b"camelot", 8

#: Retry-After of a 503, in seconds: the circuit breaker admits a trial request within that time.
RETRY_AFTER = "1"

#: Characters in the names of forwarded fields, in lower case.
_NAME_CHARACTERS = b"abcdefghijklmnopqrstuvwxyz0123456789-"

#: How often a name is decoded to look for dot segments; honest clients encode once or twice.
MOST_DECODINGS = 8

#: A dot segment.  ``;?#`` end a name for servers that drop parameters, or decode a path before they split off query and
#: fragment.
_DOTS = re.compile(rb"(?:\A|[/\\])\.\.?(?:\Z|[/\\;?#])")

_DIGITS = "0123456789abcdefABCDEF"
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")

#: The normal form of a percent-encoded byte, by its two digits: the character if it is unreserved (RFC 3986, section
#: 2.3), else the escape in upper case.
_NORMAL = {
    a + b: character if _UNRESERVED.fullmatch(character := chr(int(a + b, 16))) else f"%{a}{b}".upper()
    for a in _DIGITS
    for b in _DIGITS
}


class Forwarding:
    """Forwards requests at and below `prefix` to `upstream`."""

    def __init__(self, prefix: str, upstream: Upstream) -> None:
        self._prefix = prefix
        self.upstream = upstream

    def respond(self, request: Request, cache: ResponseCache, peer: Peer, prefix: str, rest: Names) -> Reply:
        """Forward a request, and return the response: bytes, or a `ForwardedReply` for a long one."""
        if request.method not in ALLOWED.split(", "):
            return refuse_method(request, cache, ALLOWED)
        if _may_have_dots(b"/".join(rest)):
            return error(request, 404, cache)
        fields, hops = _forwarded(request, peer)
        if hops > MOST_HOPS:
            return error(request, 508, cache)
        target = normalize(request.path).encode("ascii")
        try:
            exchange = self.upstream.ask(request.method, target, fields, request.body, peer)
        except UpstreamError as failure:
            return self._failed(request, cache, peer, failure)
        try:
            return self._forward_response(request, cache, exchange)
        except UpstreamError as failure:
            exchange.close()
            return self._failed(request, cache, peer, failure)
        except BaseException:
            exchange.close()
            raise

    def close(self) -> None:
        """Close the kept connections."""
        self.upstream.close()

    def _failed(self, request: Request, cache: ResponseCache, peer: Peer, failure: UpstreamError) -> bytes:
        if failure.status != 503:
            log.warning("%s: %s", peer.address, self._describe(failure))
            return error(request, failure.status, cache)
        # One log line per refused request could flood the log.
        if refused := self.upstream.take_refused():
            log.warning("%s: %s; requests refused: %d", peer.address, self._describe(failure), refused)
        return error(request, failure.status, cache, [("Retry-After", RETRY_AFTER)])

    def _describe(self, failure: UpstreamError) -> str:
        return f"{self._prefix}: upstream server {self.upstream}: {failure}"

    def _forward_response(self, request: Request, cache: ResponseCache, exchange: Exchange) -> Reply:
        response = exchange.head
        lines = _fields(cache, response)
        length = response.length
        if request.method == "HEAD" or response.status in BODILESS:
            # Content-Length is that of GET; a 204 has none (RFC 9110, section 8.6).
            if response.announced is not None and response.status != 204:
                lines.append(b"Content-Length: %d" % response.announced)
            for _ in exchange.pieces():
                pass
            return _head(lines, request, closes=False)
        chunked = length is None and request.version != (1, 0)
        closes = length is None and not chunked
        if length is not None:
            lines.append(b"Content-Length: %d" % length)
        elif chunked:
            lines.append(b"Transfer-Encoding: chunked")
        head = _head(lines, request, closes=closes)
        if length is not None and length <= WHOLE:
            return head + b"".join(exchange.pieces())
        pieces = exchange.pieces()
        # Until the first piece has arrived, the response can still be replaced by 502.
        first = next(pieces, b"")
        return ForwardedReply(self._parts(head, first, pieces, chunked), exchange, closes=closes)

    def _parts(self, head: bytes, first: bytes, pieces: Iterator[bytes], chunked: bool) -> Generator[bytes, None, None]:
        """Yield the bytes of a response, each piece followed by an empty one, which has it sent before the next
        arrives. Raises `ReplyCutShort`."""
        yield head + _framed(first, chunked)
        yield b""
        try:
            for piece in pieces:
                yield _framed(piece, chunked)
                yield b""
        except UpstreamError as failure:
            raise ReplyCutShort(self._describe(failure)) from None
        if chunked:
            yield b"0\r\n\r\n"


def _framed(piece: bytes, chunked: bool) -> bytes:
    """Return a piece of a body with its transfer coding.  An empty piece stays empty, as an empty chunk ends the
    body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece


class ForwardedReply(Iterator[bytes]):
    """A response that is forwarded as it arrives."""

    def __init__(self, parts: Generator[bytes, None, None], exchange: Exchange, *, closes: bool) -> None:
        self._parts = parts
        self._exchange = exchange
        #: For the log: the status, and the length of the body in bytes; None if unknown.
        self.status_and_size = exchange.head.status, exchange.head.length
        #: Whether the end of the connection ends the body.
        self.closes = closes

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        """End the exchange: at the end of the response, or earlier if the client has gone."""
        self._parts.close()
        self._exchange.close()


def _may_have_dots(path: bytes) -> bool:
    """Return whether a server may find a dot segment in a path, and so leave the prefix.

    That happens in servers that decode a name repeatedly or too early, or drop parameters after a semicolon."""
    if b"." not in path and b"%" not in path:
        return False
    # The whole path at once, since it may have thousands of names.
    for _ in range(MOST_DECODINGS):
        once = decoded(path)
        if once == path:
            return _DOTS.search(path) is not None
        path = once
    return True


def normalize(path: str) -> str:
    """Return the normal form of a path and its query (RFC 3986, section 6.2.2).

    So the upstream server cannot interpret it differently from `daemons.web.site.prefix_map`: escapes of unreserved
    characters are decoded, other escapes are in upper case, and in the path a percent sign that begins no escape is
    escaped."""
    path, mark, query = path.partition("?")
    # Not re.sub, which would call a function for each of thousands of escapes.
    first, *parts = path.split("%")
    find = _NORMAL.get
    normal = ["%25" + part if (found := find(part[:2])) is None else found + part[2:] for part in parts]
    return first + "".join(normal) + mark + query


def _forwarded(request: Request, peer: Peer) -> tuple[list[tuple[bytes, bytes]], int]:
    """Return the fields of the forwarded request, and how often it has passed through this server."""
    named = _connection_options(request.headers)
    fields: list[tuple[bytes, bytes]] = []
    via: list[bytes] = []
    host = b""
    for name, value in request.headers:
        word = name.lower()
        if word == b"via":
            via.append(value)
        elif word == b"host":
            host = value
            fields.append((name, value))
        # Other characters are refused: many servers map X_Forwarded_For or X.Forwarded.For to HTTP_X_FORWARDED_FOR, the
        # variable of the trusted field.
        elif (
            word not in NOT_FORWARDED
            and word not in OVERRIDE_FIELDS
            and word not in named
            and not word.startswith(b"x-forwarded")
            and not word.translate(None, _NAME_CHARACTERS)
        ):
            fields.append((name, value))
    major, minor = request.version
    hops = sum(each.count(PSEUDONYM) for each in via)
    fields.append((b"Via", b", ".join((*via, b"%d.%d %b" % (major, minor, PSEUDONYM)))))
    if not host:
        fields.append((b"Host", b"localhost"))  # optional in HTTP/1.0, required in HTTP/1.1
    else:
        fields.append((b"X-Forwarded-Host", host))
    if peer.host != "unix":
        fields.append((b"X-Forwarded-For", peer.host.encode("ascii", "replace")))
    fields.append((b"X-Forwarded-Proto", b"https" if peer.secure else b"http"))
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        fields.append((b"Content-Length", b"%d" % len(request.body)))
    return fields, hops


def _fields(cache: ResponseCache, response: ResponseHead) -> list[bytes]:
    """Return the status line and the fields of a response, without hop-by-hop fields."""
    named = _connection_options(response.fields)
    lines = [b"HTTP/1.1 %d %b" % (response.status, response.reason)]
    dated = False
    for name, value in response.fields:
        word = name.lower()
        if cache.private and (word in _CACHING or word.endswith(b"-cache-control")):
            continue
        if word not in HOP_BY_HOP and word not in named:
            dated |= word == b"date"
            lines.append(b"%b: %b" % (name, value))
    if not dated:
        lines.append(b"Date: " + cache.date.encode("ascii"))
    if cache.private:
        lines.append(b"Cache-Control: private, no-cache")
    return lines


def _head(lines: list[bytes], request: Request, *, closes: bool) -> bytes:
    """Return the complete head of a response."""
    if closes or not request.keep_alive:
        lines.append(b"Connection: close")
    elif request.version == (1, 0):
        lines.append(b"Connection: keep-alive")
    return b"\r\n".join((*lines, b"\r\n"))


def _connection_options(fields: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Return the field names listed in Connection, in lower case."""
    return list_members(value for name, value in fields if name.lower() == b"connection")
