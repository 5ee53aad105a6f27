"""Limits of the CPU time and retained memory of any one request."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from daemons.serving.conversation.conversation import Conversation
from daemons.web.gateway.upstream_address import UPSTREAM
from daemons.web.site.protection import Realm
from tests.web import talking, wsgi_talking
from tests.web.example_handlers import Hello
from tests.web.example_site import ask, make, send, service
from tests.web.example_site import talking as visit_site
from tests.web.site.test_protection import write

#: Bytes of a field that fills a head of 16 KiB, and of a path that fills a request line of 8 KiB.
FIELD, PATH = 15_800, 8_000

#: Maximum CPU time, as a multiple of an honest request.
MOST = 20

#: Makes every request different, so that caches do not help.
number = count()

#: Fields with parsed values.
NAMES = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection", "Content-Type"),
    *("Cookie", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Range"),
    *("X-Forwarded-For", "Expect"),
)
PIECES = (",", "a,", "a;q=0.1,", '"",', "TAG,", '"a",W/', "0-0,", "en-", "en,", " ", "=", "a=b;", "a", "\t,", "Basic ")
PATHS = (
    "/%c3%a9",
    "/%ef%b7%ba",
    "/a",
    "/a.",
    "/%2541",
    "/",
    "%41",
    "/%41",
    "a",
    "%2e",
    ".",
    "/.",
    "~",
    ";",
    "%c3%a9",
    "%cc%81",
    "%",
    "%%41",
    "&a=b",
    "a%41",
)


#: The fields of a browser, which an honest request has.
HONEST = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.8,de;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Connection: keep-alive",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Referer: http://localhost/index.html",
    "Cookie: session=0123456789abcdef",
)


def request(path: str, *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"X-Number: {next(number)}", *fields]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def requests(tag: str) -> Iterator[tuple[str, bytes]]:
    """Yield the largest requests of each kind, all different."""
    for name in NAMES:
        for piece in PIECES:
            begin = "bytes=" if name == "Range" else f"a{next(number)}," if name != "If-Range" else ""
            value = begin + piece.replace("TAG", tag) * (
                FIELD // len(piece) // (len(tag) // 3 if "TAG" in piece else 1)
            )
            yield f"{name}: {piece}", request("/text.txt", f"{name}: {value}")
    for piece in PATHS:
        for begin in ("/", "/text.txt?", "/notes/", "/notes", "/sub/"):
            yield f"{begin}{piece}", request(begin + piece * (PATH // len(piece)))
    for name in ("Accept-Language", "Accept-Encoding", "Cookie", "If-None-Match"):
        yield f"many {name}", request("/text.txt", *[f"{name}: {'a,' * 70}"] * 95)
    yield "many names", request("/text.txt", *[f"X-{each}-{next(number)}: {'a' * 100}" for each in range(95)])


@pytest.fixture(params=["httpd", "tables", "gateway", "partly", "handler", "files", "application"])
def visit(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], AbstractContextManager[Conversation]]:
    """Return a function that opens a conversation with a service of each kind."""
    root = make(tmp_path)
    write(tmp_path / "users", Arthur="x")
    realm = Realm("x", str(tmp_path / "users"))
    protected = {"/sub/text.txt": realm, "/notes/x": realm}
    tables = service(root, languages=("en", "fr"), protected=protected, documents={"/notes": str(tmp_path / "notes")})
    made: dict[str, Any] = {
        "httpd": partial(visit_site, service(root, languages=("en", "de-CH"))),
        "tables": partial(visit_site, tables),
        "gateway": partial(visit_site, service(root, proxy={"/": UPSTREAM.parse("127.0.0.1:1")})),
        "partly": partial(
            visit_site, service(root, protected=protected, proxy={"/notes": UPSTREAM.parse("127.0.0.1:1")})
        ),
        "handler": partial(talking.visit, Hello),
        "files": partial(talking.visit, partial(SimpleHTTPRequestHandler, directory=root)),
        "application": wsgi_talking.visit,
    }
    found: Callable[[], AbstractContextManager[Conversation]] = made[request.param]
    return found


def cpu(visit: Callable[[], AbstractContextManager[Conversation]], data: bytes) -> float:
    """Return the seconds of CPU time of a request."""
    with visit() as conversation:
        before = time.process_time()
        send(conversation, data)
        return time.process_time() - before


def same(name: str, tag: str) -> bytes:
    """Return the request of that name again, with another number."""
    return next(data for each, data in requests(tag) if each == name)


def test_no_request_costs_more_than_twenty_honest_ones(
    visit: Callable[[], AbstractContextManager[Conversation]], tmp_path: Path
) -> None:
    tag = ask(service(str(tmp_path / "www")), "/text.txt").fields["ETag"]
    honest = sorted(cpu(visit, request("/text.txt", *HONEST)) for _ in range(31))[15]
    dear = {}
    for name, data in requests(tag):
        if cpu(visit, data) > MOST * honest:
            # Again, in turns with an honest request, since the speed of the machine changes.
            turns = [(cpu(visit, same(name, tag)), cpu(visit, request("/text.txt", *HONEST))) for _ in range(7)]
            ratio = min(each for each, _ in turns) / min(each for _, each in turns)
            if ratio > MOST:
                dear[name] = ratio
    assert not dear


def rss() -> int:
    """Return the resident set size of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_different_field_values_are_not_kept(
    visit: Callable[[], AbstractContextManager[Conversation]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest keeps log records

    def send_all(times: int) -> None:
        for name in NAMES:
            for _ in range(times):
                with visit() as conversation:
                    value = ("bytes=" if name == "Range" else "") + f"en-{next(number)};q=0.5," * 500
                    send(conversation, request("/text.txt", f"{name}: {value}"))

    send_all(3)
    before = rss()
    send_all(300)
    assert rss() - before < 4 * 1024**2
