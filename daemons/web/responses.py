"""Response messages (RFC 9112, sections 4 to 6), and a cache of responses that lasts one second."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from daemons.framings.cache import HEAD
from daemons.framings.http import Request
from daemons.serving.conversation.reply import Reply
from daemons.web.dates import http_date

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: The Server field, without versions, which would disclose known vulnerabilities.
SERVER = "camelot"

#: Statuses of responses that never have a body (RFC 9110, sections 15.3.5 and 15.4.5).
BODILESS = frozenset((204, 304))

#: Capacity of a `ResponseCache`, in bytes of request heads and responses.
CAPACITY = 3 * 1024 * 1024

#: Approximate overhead of a cache entry, in bytes.
ENTRY = 256

#: Control characters: a line end in a value would split one field into two (RFC 9110, section 5.5).
_FORBIDDEN = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")

#: Standard methods (RFC 9110, section 9.3; RFC 5789).  If a method of these is not allowed, the status is 405; for any
#: other method it is 501.
KNOWN = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"))

#: Default sentence on the page of each status.
SENTENCES = {
    301: "This page has moved permanently.",
    302: "This page is at another address for now.",
    303: "The result is at another address.",
    307: "This page is at another address for now.",
    308: "This page has moved permanently.",
    400: "The request is not valid.",
    401: "A name and a password are required.",
    403: "Access to this page is not allowed.",
    404: "There is no page at this address.",
    405: "This page does not support the method of the request.",
    409: "A document of this name exists already.",
    410: "This page has been removed permanently.",
    412: "The version on the server does not meet a condition of the request.",
    415: "The type of the body is not supported.",
    416: "The page has none of the requested bytes.",
    500: "The server failed to process the request.",
    501: "The server does not support the method of the request.",
    502: "The upstream server did not send a valid response.",
    503: "The server is temporarily unable to process the request.",
    504: "The upstream server did not respond in time.",
    507: "There is not enough storage space for the document.",
    508: "The request was forwarded in a loop.",
}

#: Field names and values.
Fields = Iterable[tuple[str, str]]


class ResponseCache:
    """The Date field and the responses of one second.

    A new cache is made each second, so that a changed file is noticed within a second."""

    __slots__ = ("_responses", "_size", "date", "get", "now", "private")

    #: A response and its log entry.
    Known = tuple[bytes, tuple[str, str] | None]

    def __init__(self, now: int, *, private: bool = False) -> None:
        #: Whether responses are for one user only.  Then nothing is cached, here or in shared caches.
        self.private = private
        #: Seconds since 1970, and the same as an HTTP date.
        self.now = now
        self.date = http_date(now)
        self._responses: dict[bytes, ResponseCache.Known] = {}
        self._size = 0
        #: Return the response and log entry of a request with the same head, or None.
        self.get = self._responses.get

    def put(self, request: Request, response: bytes, entry: tuple[str, str] | None = None) -> None:
        """Cache a response that depends on the request's head alone, with its log entry, if there is room."""
        if self.private:
            return
        size = ENTRY + len(request) + len(response)
        if self._size + size <= CAPACITY and len(request) <= HEAD:
            self._size += size
            # As plain bytes: a Request would keep its body in memory.
            self._responses[bytes(request)] = response, entry


def head(request: Request, status: int, cache: ResponseCache, fields: Fields) -> bytes:
    """Return status line and header fields of a response, with the empty line.  Raises `ValueError` for a control
    character in a field."""
    lines = [f"HTTP/1.1 {status} {phrase(status)}", f"Date: {cache.date}", f"Server: {SERVER}"]
    for name, value in fields:
        if cache.private and name in ("Cache-Control", "Expires"):
            continue
        if _FORBIDDEN.search(value):
            raise ValueError(f"{name}: {value!r} contains a control character")
        lines.append(f"{name}: {value}")
    if cache.private:
        # must-revalidate and max-age would allow shared caches to store the response to an authenticated request (RFC
        # 9111, section 3.5).  no-cache has browsers revalidate, so that a revoked password takes effect at once.
        lines.append("Cache-Control: private, no-cache")
    if not request.keep_alive:
        lines.append("Connection: close")
    elif request.version == (1, 0):
        lines.append("Connection: keep-alive")
    lines.append("X-Content-Type-Options: nosniff\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1")


def make_response(
    request: Request,
    status: int,
    cache: ResponseCache,
    body: bytes,
    fields: Fields = (),
    media: str = "text/html; charset=utf-8",
) -> bytes:
    """Return a response with `body`, which caches must revalidate before reuse."""
    about = [("Cache-Control", "no-cache"), ("Content-Type", media), ("Content-Length", str(len(body)))]
    response_head = head(request, status, cache, [*fields, *about])
    return response_head if request.method == "HEAD" else response_head + body


def error(request: Request, status: int, cache: ResponseCache, fields: Fields = (), content: str = "") -> bytes:
    """Return a page with the status and `content`, HTML, by default the sentence of `SENTENCES`.  It contains no part
    of the request."""
    if not content and (sentence := SENTENCES.get(status)):
        content = f"<p>{sentence}\n"
    return make_response(request, status, cache, page(f"{status} {phrase(status)}", content), fields)


def refuse_method(request: Request, cache: ResponseCache, allowed: str) -> bytes:
    """Return the response to OPTIONS, or 405 or 501 for a method that is not `allowed`, a list as in Allow."""
    if request.method == "OPTIONS":
        return head(request, 204, cache, [("Allow", allowed)])
    return error(request, 405 if request.method in KNOWN else 501, cache, [("Allow", allowed)])


def status_and_size(response: Reply) -> tuple[int, int | None]:
    """Return a response's status, and the length of its body in bytes; None if that is not known yet."""
    if isinstance(response, bytes):
        return int(response[9:12]), len(response) - response.index(b"\r\n\r\n") - 4
    found: tuple[int, int | None] = getattr(response, "status_and_size")  # noqa: B009, set on every iterator of httpd
    return found


def phrase(status: int) -> str:
    """Return the reason phrase of a status."""
    return HTTPStatus(status).phrase


def page(title: str, content: str = "") -> bytes:
    """Return an HTML page.  `title` and `content` are HTML: the caller escapes them."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        "<style>body{font:1.1em/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}</style>\n"
        f"<title>{title}</title>\n<h1>{title}</h1>\n{content}</html>\n"
    ).encode()
