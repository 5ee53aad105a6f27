"""Responses as octets: RFC 9112, sections 4 to 6, and what holds of all of them for a second."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from daemons.framings.cache import HEAD
from daemons.framings.http import Request
from daemons.serving.conversation.service import Reply
from daemons.web.dates import http_date

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: The Server field, without versions, which would disclose known vulnerabilities.
SERVER = "camelot"

#: Statuses without a body, whatever is said (RFC 9110, sections 15.3.5 and 15.4.5).
BODILESS = frozenset((204, 304))

#: What is remembered for a second, in octets of requests and their answers.
REMEMBERED = 3 * 1024 * 1024

#: Octets that one takes beside its own; roughly.
ENTRY = 256

#: RFC 9110, section 5.5: with a line end in it, one field would be two.
_FORBIDDEN = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")

#: Methods that are known (RFC 9110, section 9.3; RFC 5789).
KNOWN = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"))

#: The sentence on the page of an error, unless the caller gives a more exact one.
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
    500: "The server failed to answer the request.",
    501: "The server does not support the method of the request.",
    502: "The server behind this one did not send a valid response.",
    503: "The server cannot answer at the moment.",
    504: "The server behind this one did not respond in time.",
    507: "There is no room for the document.",
    508: "The request was forwarded in a loop.",
}

#: Names and values.
Fields = Iterable[tuple[str, str]]


class ResponseCache:
    """What holds for one second: the Date, and the answers that were given.

    A file that was changed is noticed within a second: then all this is forgotten, the answers with their Date."""

    __slots__ = ("_replies", "_size", "date", "get", "now", "private")

    #: An answer, and what the log says of it.
    Known = tuple[bytes, tuple[str, str] | None]

    def __init__(self, now: int, *, private: bool = False) -> None:
        #: Whether what is said is for one visitor alone.  A second of its own, in which nothing is remembered.
        self.private = private
        #: Seconds since 1970; and as it is written.
        self.now = now
        self.date = http_date(now)
        self._replies: dict[bytes, ResponseCache.Known] = {}
        self._size = 0
        #: The answer to a request with the same head, or None.
        self.get = self._replies.get

    def remember(self, request: Request, reply: bytes, entry: tuple[str, str] | None = None) -> None:
        """Keep an answer that depends on the head alone, with its entry in the log; as many as there is room for."""
        if self.private:
            return
        size = ENTRY + len(request) + len(reply)
        if self._size + size <= REMEMBERED and len(request) <= HEAD:
            self._size += size
            # The octets alone: the request would keep its body.
            self._replies[bytes(request)] = reply, entry


def head(request: Request, status: int, cache: ResponseCache, fields: Fields) -> bytes:
    """Status line and header fields of the answer to `request`, with the empty line.  Raises `ValueError`: a control
    character in a field."""
    lines = [f"HTTP/1.1 {status} {phrase(status)}", f"Date: {cache.date}", f"Server: {SERVER}"]
    for name, value in fields:
        if cache.private and name in ("Cache-Control", "Expires"):
            continue
        if _FORBIDDEN.search(value):
            raise ValueError(f"{name}: {value!r}: a control character")
        lines.append(f"{name}: {value}")
    if cache.private:
        # To a shared cache, must-revalidate and max-age would be leave to keep what was said to who showed a password
        # (RFC 9111, section 3.5); and a browser asks again, so that who is no longer let in is not shown it either.
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
    """An answer with a body that is made for it, and that nobody keeps."""
    about = [("Cache-Control", "no-cache"), ("Content-Type", media), ("Content-Length", str(len(body)))]
    said = head(request, status, cache, [*fields, *about])
    return said if request.method == "HEAD" else said + body


def error(request: Request, status: int, cache: ResponseCache, fields: Fields = (), content: str = "") -> bytes:
    """A page with the status and a sentence, and nothing of the request; `content` is HTML, by default of
    `SENTENCES`."""
    if not content and (sentence := SENTENCES.get(status)):
        content = f"<p>{sentence}\n"
    return make_response(request, status, cache, page(f"{status} {phrase(status)}", content), fields)


def refuse_method(request: Request, cache: ResponseCache, allowed: str) -> bytes:
    """To a method for which there is nothing here: which there are."""
    if request.method == "OPTIONS":
        return head(request, 204, cache, [("Allow", allowed)])
    return error(request, 405 if request.method in KNOWN else 501, cache, [("Allow", allowed)])


def status_and_size(reply: Reply) -> tuple[int, int | None]:
    """The status of an answer, and how many octets its body has; None: nobody knows yet."""
    if isinstance(reply, bytes):
        return int(reply[9:12]), len(reply) - reply.index(b"\r\n\r\n") - 4
    found: tuple[int, int | None] = getattr(reply, "status_and_size")  # noqa: B009, of ours, each iterator has it
    return found


def phrase(status: int) -> str:
    """The reason phrase."""
    return HTTPStatus(status).phrase


def page(title: str, content: str = "") -> bytes:
    """A small page; whoever writes it has escaped what is not ours."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        "<style>body{font:1.1em/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}</style>\n"
        f"<title>{title}</title>\n<h1>{title}</h1>\n{content}</html>\n"
    ).encode()
