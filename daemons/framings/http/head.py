"""A request's head: its request line and its headers (RFC 9112, sections 2 to 6), or why they are none.

One regular expression says what a head may be, octet by octet; what it cannot say is judged behind it.
"""

from __future__ import annotations

import re

from daemons.framings.base import FramingError
from daemons.framings.cache import size_of_head
from daemons.framings.http.grammar import (
    DISGUISED,
    FORBIDDEN_BYTE,
    TOKEN,
    check_codings,
    describe_bad_lines,
    has_forbidden_byte,
    list_members,
    read_length,
    split_fields,
)
from daemons.framings.http.refusals import refusal

#: "It is RECOMMENDED that all HTTP senders and recipients support, at a minimum, request-line lengths of 8000 octets"
#: (RFC 9112, section 3).  In octets, its CRLF included.
REQUEST_LINE = 8 * 1024

#: A target is visible ASCII.  Strictly, `"<>\^`{|}` stand in none either, but browsers send them, and nobody misreads
#: them; a `#` is cut off by some and not by others.
_REQUEST_LINE = re.compile(rb"(%b) ([!\"$-~]+) HTTP/([0-9])\.([0-9])\r\n" % TOKEN)

#: What of RFC 3986's `host` anybody has: a name, an IPv4 address, or an IPv6 address in brackets.
_HOST = re.compile(rb"(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)

#: Fields that decide where a request ends, which server it is for, and whether the connection is kept.
_JUDGED = (b"connection", b"content-length", b"expect", b"host", b"transfer-encoding")

#: Fields with one value that decide how a body is read, who asks, or what is sent (RFC 9110, sections 8.3, 11.6.2,
#: 11.7.2, 13.1, 14.2 and 14.4).  Of two, one reader takes the first and another the last.
_SINGLE = (
    *(b"content-range", b"content-type", b"authorization", b"proxy-authorization"),
    *(b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"),
)

#: All names that `parse` looks at; whether there may be several.
_WATCHED = dict.fromkeys((*DISGUISED, *_SINGLE), False) | dict.fromkeys(_JUDGED, True)


class Request(bytes):
    """A request.  As bytes it is its head as received, request line to empty line, so that what depends on the head
    alone can be remembered by it; two requests with the same head and different bodies are equal.

    Not to be changed: the same head without a body may be the same object each time.
    """

    #: Upper and lower case as received.
    method: str = ""
    #: As received: visible ASCII, in one of the four forms of RFC 9112, section 3.2.
    target: str = ""
    #: What is asked of this server: the target, or of an absolute one what stands behind its authority.
    path: str = ""
    #: (1, 0) or (1, 1).
    version: tuple[int, int] = (1, 1)
    #: Names and values as received, in order, without the blanks around a value.  Where the target is absolute, Host
    #: is the target's, whatever was sent (RFC 9112, section 3.2.2).  Trailers are dropped.
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: Complete, and out of its chunks.
    body: bytes = b""
    #: Whether the peer would have the connection go on after the reply (RFC 9112, section 9.3).
    keep_alive: bool = True
    #: Who asks, where whoever answers has made sure of it: for the log.
    user: str = ""
    #: This is no request but a question, all else being empty: may a body be sent?  Reply `100 Continue`.
    expects: bool = False

    def __sizeof__(self) -> int:
        """Estimate the bytes of the request with its fields and its body."""
        return super().__sizeof__() + size_of_head(self) + len(self.body)

    def field(self, name: bytes) -> str:
        """The value of a field, the first of several; nothing where there is none.  `name` in small letters."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), "")

    def with_body(self, body: bytes) -> Request:
        """This request with `body`."""
        request = Request(self)
        request.__dict__.update(self.__dict__)
        request.body = body
        return request


class Head:
    """What a head comes to: a request without its body, and how its body will come."""

    __slots__ = ("alone", "chunked", "expects", "last", "length", "request")

    def __init__(self, request: Request, length: int, chunked: bool, expects: bool) -> None:
        self.request = request
        #: Octets of the body, where it is not in chunks.
        self.length = length
        self.chunked = chunked
        #: Whether the peer waits to be told that it may send the body.
        self.expects = expects
        #: Whether the peer asks no more.
        self.last = not request.keep_alive
        #: All the messages that this head makes, where there is no body.
        self.alone = None if length or chunked else (request,)


def parse(raw: bytes, *, headers: int, body: int) -> Head:
    """What `raw`, which ends with its first empty line, comes to.  At most `headers` header fields, and a body of at
    most `body` octets.  Raises `FramingError`."""
    line = raw.find(b"\r\n") + 2
    if line > REQUEST_LINE:
        raise long_line(raw)
    match = _REQUEST_LINE.match(raw)
    fields = None if match is None else split_fields(raw, match.end())
    if match is None or fields is None:
        raise refusal(400, _what_is_wrong(raw))
    method, target, major, minor = match.groups()
    if major != b"1":
        raise refusal(505, "a major version other than 1")
    # Of a minor version not yet known, the highest that is known is spoken (RFC 9110, section 2.5).
    version = (1, 1) if minor != b"0" else (1, 0)
    if len(fields) > headers:
        raise refusal(431, f"{len(fields)} header fields; {headers} are allowed")
    judged: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        word = name.lower()
        listed = _WATCHED.get(word)
        if listed is None:
            continue
        if listed:
            judged.setdefault(word, []).append(value)
        elif word in DISGUISED:
            raise refusal(400, "Content-Length or Transfer-Encoding with an underscore")
        elif word in judged:
            raise refusal(400, f"more than one {word.decode('ascii')}")
        else:
            judged[word] = [value]

    _judge_host(judged.get(b"host", []), version)
    authority, path = _parts(method, target)
    chunked, length = _length(judged, version, body)
    if method == b"CONNECT" and (chunked or length):
        # To some, what stands behind it is for the other end of the tunnel (RFC 9110, section 9.3.6).
        raise refusal(400, "CONNECT with a body")
    request = Request(raw)
    request.method = method.decode("ascii")
    request.target = target.decode("ascii")
    request.path = path.decode("ascii")
    request.version = version
    request.headers = fields if authority is None else _with_host(fields, authority)
    options = list_members(judged.get(b"connection", ()))
    request.keep_alive = b"close" not in options and (version == (1, 1) or b"keep-alive" in options)
    expectations = list_members(judged.get(b"expect", ())) if version == (1, 1) else set()
    if expectations - {b"100-continue"}:
        raise refusal(417, "an expectation other than 100-continue")
    return Head(request, length, chunked, bool(expectations))


def long_line(source: bytes | bytearray, start: int = 0, limit: int = REQUEST_LINE) -> FramingError:
    """Why a request line that does not end within `limit` octets is refused."""
    if has_forbidden_byte(source, start, start + limit):
        return refusal(400, FORBIDDEN_BYTE)
    return refusal(414, f"no end of the request line within {limit} octets")


def _what_is_wrong(raw: bytes) -> str:
    """For the log, of a head that is none."""
    if has_forbidden_byte(raw, 0, len(raw)):
        return FORBIDDEN_BYTE
    if not _REQUEST_LINE.match(raw):
        return "the request line is not a method, a target and HTTP/1.1, one blank between them"
    return describe_bad_lines(raw[:-4].split(b"\r\n")[1:])


def _judge_host(hosts: list[bytes], version: tuple[int, int]) -> None:
    """RFC 9112, section 3.2.  An empty Host, allowed where a target has no authority, has nobody to send it."""
    if len(hosts) > 1:
        raise refusal(400, "more than one Host")
    if hosts:
        if not _is_host(hosts[0]):
            raise refusal(400, "Host is not a name or an address, and maybe a port")
    elif version == (1, 1):
        raise refusal(400, "no Host, which HTTP/1.1 must have")


def _is_host(octets: bytes, port: bool = False) -> bool:
    """`port`: there must be one."""
    match = _HOST.fullmatch(octets)
    return match is not None and (int(match[1]) <= 65535 if match[1] else not port)


def _parts(method: bytes, target: bytes) -> tuple[bytes | None, bytes]:
    """The authority of an absolute target, or None; and the path."""
    if method == b"CONNECT":
        if not _is_host(target, port=True):
            raise refusal(400, "CONNECT is to a host and a port")
        return None, target
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return None, target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise refusal(400, "a target is a path, or http:// and so on; * is for OPTIONS")
    authority, path = match.groups()
    # What stands before an @ is for phishing (RFC 9110, section 4.2.4).
    if not _is_host(authority):
        raise refusal(400, "the target's authority is not a name or an address, and maybe a port")
    if not path and method == b"OPTIONS":
        return authority, b"*"
    return authority, path if path.startswith(b"/") else b"/" + path


def _with_host(fields: tuple[tuple[bytes, bytes], ...], host: bytes) -> tuple[tuple[bytes, bytes], ...]:
    if any(name.lower() == b"host" for name, _ in fields):
        return tuple((name, host if name.lower() == b"host" else value) for name, value in fields)
    return (b"Host", host), *fields


def _length(judged: dict[bytes, list[bytes]], version: tuple[int, int], limit: int) -> tuple[bool, int]:
    """Whether the body comes in chunks, and else how long it is: RFC 9112, section 6.3, and where that leaves a
    choice, the refusal."""
    codings = judged.get(b"transfer-encoding")
    lengths = judged.get(b"content-length")
    if codings is not None:
        check_codings(codings, lengths, version)
        return True, 0
    if lengths is None:
        return False, 0
    length = read_length(lengths)
    if length > limit:
        raise refusal(413, f"a body of {length} octets is announced; {limit} are allowed")
    return False, length
