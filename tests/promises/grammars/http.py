"""HTTP requests to a static site."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service_binding import ServiceBinding
from tests.promises.grammars.grammar import Feed, Grammar, converse, filled, word
from tests.web.example_site import LOCAL, make, service

#: Bytes of a head: `HTTP(head=…)`.
SIZE = 16 * 1024


def serve(folder: Path) -> Feed:
    httpd = service(make(folder))
    binding = ServiceBinding(httpd)
    return lambda data: converse(Conversation(httpd, binding, lambda: LOCAL), data)


def get(
    *fields: str, target: str = "/text.txt", method: str = "GET", host: str = "localhost", version: str = "1.1"
) -> bytes:
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


#: Fields whose value is a list, a date or an identifier.
FIELDS = (
    *("Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection"),
    *(
        "Content-Encoding",
        "Content-Language",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Expect",
        "Forwarded",
        "From",
    ),
    *("If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Keep-Alive", "Origin"),
    *("Range", "Referer", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "Via", "X-Forwarded-For"),
)


def unlike(number: int) -> bytes:
    text, long = word(number, 40), word(number, 14_000)
    field = FIELDS[number % len(FIELDS)]
    day = f"{number % 28 + 1:02} Oct {1971 + number % 5000} {number % 24:02}:{number % 60:02}:00 GMT"
    kinds = [
        get(f"{field}: {long}"),
        get(f"{field}: {text};q=0.{number % 1000}, {text}-{text};q=1"),
        get(f"Accept-Language: {text[:8]}-{text[8:16]}, {text[:2]};q=0.{number % 1000}", target="/"),
        get(f"Accept-Encoding: {text}, gzip;q=0.{number % 1000}, {long}"),
        get(f'If-None-Match: "{text}", W/"{long}"', f"Range: bytes={number}-{number + 5}"),
        get(f"If-Modified-Since: Sun, {day}", f"If-Range: Sun, {day}"),
        get(f"{text}: {text}", f"X-{long}: 1"),
        get(method=word(number, 20)),
        get(method=word(number, 14_000)),
        get(target=f"/{long}"),
        get(target=f"/{text}/?{text}={text}"),
        get(target=f"http://{text}.example/{text}"),
        get(host=f"{text}.example:{number % 65_536}"),
        get(version=f"{number % 10}.{number // 10 % 10}"),
        get("Transfer-Encoding: chunked", method="POST") + f"2;{long}=1\r\nab\r\n0\r\n{text}: {text}\r\n\r\n".encode(),
        get(
            f"Content-Type: text/plain; charset={text}", f"Content-Encoding: {text}", "Content-Length: 0", method="POST"
        ),
    ]
    return kinds[number % len(kinds)]


def lists(name: str, unit: str, size: int, between: str = ",") -> bytes:
    """Return one field with as many items as fit."""
    before, behind = get().removesuffix(b"\r\n") + f"{name}: ".encode(), b"\r\n\r\n"
    return filled(before, unit.encode(), behind, size, between.encode())


def adversarial(size: int) -> Mapping[str, bytes]:
    head = get().removesuffix(b"\r\n")
    line = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
    made = {
        "fields": filled(head, b"a:\r\n", b"\r\n", size, most=99),
        "too many fields": filled(head, b"a:\r\n", b"\r\n", size),
        "blanks before a value": filled(head + b"a:", b" ", b"\r\n\r\n", size),
        "blanks behind a value": filled(head + b"a: b", b" ", b"c\r\n\r\n", size),
        "one long name": filled(head, b"a", b": b\r\n\r\n", size),
        "name without a colon": filled(head, b"a", b"\r\n\r\n", size),
        "no end": filled(head, b"a: b\r\n", b"", size),
        "line ends": filled(b"", b"\r\n", b"", size),
        "carriage returns": filled(head, b"\r", b"", size),
        "last byte is refused": filled(head, b"a: b\r\n", b"\0\r\n\r\n", size),
        "dots": line % filled(b"", b"../", b"", 8000),
        "encoded dots": line % filled(b"", b"%2e%2e/", b"", 8000),
        "encodings": line % filled(b"", b"%61", b"", 8000),
        "slashes": line % filled(b"", b"/", b"", 8000),
        "folders": line % filled(b"", b"a/", b"", 8000),
        "languages of one file": line % filled(b"text.txt", b".en", b"", 200),
        "query": line % filled(b"?", b"a=b&", b"", 8000),
        "host": get(host="a." * 4000),
        "host of digits": get(host="[" + "1:" * 4000 + "]"),
        "length": lists("Content-Length", "1", size, ""),
        "chunks": get("Transfer-Encoding: chunked", method="POST") + filled(b"", b"1\r\na\r\n", b"0\r\n\r\n", size),
        "chunk extensions": get("Transfer-Encoding: chunked", method="POST")
        + filled(b"1", b";a=b", b"\r\na\r\n", size),
        "chunk extension in quotes": get("Transfer-Encoding: chunked", method="POST")
        + filled(b'1;a="', b"\\a", b"", size),
        "trailers": get("Transfer-Encoding: chunked", method="POST") + filled(b"0\r\n", b"a: b\r\n", b"\r\n", size),
    }
    units = {
        "Accept-Language": ("a", "a-b", "en;q=0.1", "*", "-", ";q=", " ", "\t", "a" * 2000),
        "Accept-Encoding": ("gzip", "a;q=0.5", "gzip;q=0.001", ";", "*", " "),
        "Accept": ("*/*", "a/b;c=d"),
        "Range": ("1-2", "-1", "0-", "1", "-", "9" * 3000),
        "If-None-Match": ('"a"', 'W/"a"', '"', "W/", '"a', "a", ' "a" '),
        "If-Match": ('"a"', 'W/"a"', '"'),
        "If-Modified-Since": ("Sun, 12 Oct 2025 08:00:00 GMT", "9", " ", "("),
        "If-Range": ('"a"', "9"),
        "Connection": ("a", "close", "keep-alive"),
        "Cookie": ("a=b;", "="),
        "Transfer-Encoding": ("chunked", "gzip", "a;b=c"),
        "TE": ("a", "trailers"),
        "Authorization": ("Basic ", "YTpi", "="),
        "Expect": ("100-continue", "a"),
    }
    for name, each in units.items():
        made |= {f"{name}: {unit[:12]!r}": lists(name, unit, size) for unit in each}
    return made


_numbers = itertools.count()


def honest(size: int) -> bytes:
    """Return requests of a browser for different URLs."""
    requests = b""
    while size - len(requests) > 700:
        requests += get(
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "Accept-Language: de,en-US;q=0.7,en;q=0.3",
            "Accept-Encoding: gzip, deflate, br, zstd",
            'If-None-Match: "abc"',
            target=f"/text.txt?{next(_numbers):09}",
        )
    return requests


GRAMMARS = (Grammar("HTTP requests", serve, unlike, honest, adversarial, SIZE),)
