"""Parser of request heads: request line and headers (RFC 9112, sections 2 to 6).

Regular expressions check each byte; rules that they cannot express are checked afterwards.
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
#: (RFC 9112, section 3).  In bytes, including CRLF.
REQUEST_LINE = 8 * 1024

#: A target is visible ASCII.  RFC 3986 also excludes `"<>\^`{|}`, but browsers send them, and all readers treat them
#: alike.  A `#` is excluded here too: some readers cut the target off at it, and others do not.
_REQUEST_LINE = re.compile(rb"(%b) ([!\"$-~]+) HTTP/([0-9])\.([0-9])\r\n" % TOKEN)

#: The forms of RFC 3986's `host` in use: a name, an IPv4 address, or an IPv6 address in brackets.
_HOST = re.compile(rb"(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)

#: Fields that determine the end of the request, the server that it is for, and whether the connection persists.
_JUDGED = (b"connection", b"content-length", b"expect", b"host", b"transfer-encoding")

#: Fields with one value that determine decoding of the body, authentication, or the response (RFC 9110, sections 8.3,
#: 11.6.2, 11.7.2, 13.1, 14.2 and 14.4).  If there are two, one reader uses the first and another the last.
_SINGLE = (
    *(b"content-range", b"content-type", b"authorization", b"proxy-authorization"),
    *(b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"),
)

#: Names of all fields that `parse` checks, and whether a field may be repeated.
_WATCHED = dict.fromkeys((*DISGUISED, *_SINGLE), False) | dict.fromkeys(_JUDGED, True)


class Request(bytes):
    """A request.  Its bytes are the head as received, request line to empty line, so that it can be the key of a cache
    of values that depend on the head alone; two requests with the same head and different bodies are equal.

    Immutable: requests with the same head and no body may be one object.
    """

    #: As received: methods are case-sensitive.
    method: str = ""
    #: As received: visible ASCII, in one of the four forms of RFC 9112, section 3.2.
    target: str = ""
    #: The target, without the scheme and the authority of an absolute one.
    path: str = ""
    #: (1, 0) or (1, 1).
    version: tuple[int, int] = (1, 1)
    #: Names and values as received, in order, without the whitespace around a value.  If the target is absolute, Host
    #: is the target's authority (RFC 9112, section 3.2.2).  Trailers are dropped.
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: The complete body, without chunked coding.
    body: bytes = b""
    #: Whether the connection persists after the response (RFC 9112, section 9.3).
    keep_alive: bool = True
    #: Name of the user, if the service has authenticated one: for the log.
    user: str = ""
    #: True for a message that is not a request and otherwise empty: the client waits for `100 Continue` before it sends
    #: the body.
    expects: bool = False

    def __sizeof__(self) -> int:
        """Return an estimate of the bytes of the request with its fields and its body."""
        return super().__sizeof__() + size_of_head(self) + len(self.body)

    def field(self, name: bytes) -> str:
        """Return the value of a field, the first of several; empty if there is none.  `name` is in lower case."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), "")

    def with_body(self, body: bytes) -> Request:
        """Return a copy of this request with `body`."""
        request = Request(self)
        request.__dict__.update(self.__dict__)
        request.body = body
        return request


class Head:
    """A parsed head: a request without its body, and the form of the body."""

    __slots__ = ("alone", "chunked", "expects", "last", "length", "request")

    def __init__(self, request: Request, length: int, chunked: bool, expects: bool) -> None:
        self.request = request
        #: Bytes of the body, if it is not chunked.
        self.length = length
        self.chunked = chunked
        #: Whether the client waits for 100 Continue.
        self.expects = expects
        #: Whether this is the last request of the connection.
        self.last = not request.keep_alive
        #: The messages for this head, if there is no body; else None.
        self.alone = None if length or chunked else (request,)


def parse(raw: bytes, *, headers: int, body: int) -> Head:
    """Parse `raw`, which ends with its first empty line.  Raises `FramingError`, also for more than `headers` header
    fields, and for a body of more than `body` bytes."""
    line = raw.find(b"\r\n") + 2
    if line > REQUEST_LINE:
        raise long_line(raw)
    match = _REQUEST_LINE.match(raw)
    fields = None if match is None else split_fields(raw, match.end())
    if match is None or fields is None:
        raise refusal(400, _describe(raw))
    method, target, major, minor = match.groups()
    if major != b"1":
        raise refusal(505, "a major version other than 1")
    # An unknown minor version is treated as the highest known one (RFC 9110, section 2.5).
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

    _check_host(judged.get(b"host", []), version)
    authority, path = _parts(method, target)
    chunked, length = _length(judged, version, body)
    if method == b"CONNECT" and (chunked or length):
        # Some readers forward the following bytes through the tunnel (RFC 9110, section 9.3.6).
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
    """Return the error for a request line that does not end within `limit` bytes."""
    if has_forbidden_byte(source, start, start + limit):
        return refusal(400, FORBIDDEN_BYTE)
    return refusal(414, f"no end of the request line within {limit} bytes")


def _describe(raw: bytes) -> str:
    """Return the error in an invalid head, for the log."""
    if has_forbidden_byte(raw, 0, len(raw)):
        return FORBIDDEN_BYTE
    if not _REQUEST_LINE.match(raw):
        return "the request line is not a method, a target and HTTP/1.1, one blank between them"
    return describe_bad_lines(raw[:-4].split(b"\r\n")[1:])


def _check_host(hosts: list[bytes], version: tuple[int, int]) -> None:
    """Check Host (RFC 9112, section 3.2).  Raises `FramingError`, also for an empty Host: the RFC allows it if the
    target has no authority, but no client sends it."""
    if len(hosts) > 1:
        raise refusal(400, "more than one Host")
    if hosts:
        if not _is_host(hosts[0]):
            raise refusal(400, "Host is not a name or an address, and maybe a port")
    elif version == (1, 1):
        raise refusal(400, "no Host, which HTTP/1.1 must have")


def _is_host(octets: bytes, port: bool = False) -> bool:
    """Return whether `octets` is a host with an optional port; with `port`, the port is required."""
    match = _HOST.fullmatch(octets)
    return match is not None and (int(match[1]) <= 65535 if match[1] else not port)


def _parts(method: bytes, target: bytes) -> tuple[bytes | None, bytes]:
    """Return the authority of an absolute target (None for other targets), and the path."""
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
    # User information before an @ is used for phishing (RFC 9110, section 4.2.4).
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
    """Return whether the body is chunked, and its length, 0 if chunked (RFC 9112, section 6.3).

    Raises `FramingError`, also for input that a server may either accept or reject."""
    codings = judged.get(b"transfer-encoding")
    lengths = judged.get(b"content-length")
    if codings is not None:
        check_codings(codings, lengths, version)
        return True, 0
    if lengths is None:
        return False, 0
    length = read_length(lengths)
    if length > limit:
        raise refusal(413, f"a body of {length} bytes is announced; {limit} are allowed")
    return False, length
