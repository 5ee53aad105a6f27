"""Requests to httpd and their responses.  Without sockets."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from daemons.framings.http import HTTP
from daemons.httpd import Httpd
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import IDLE, OVER, PENDING
from daemons.web.files.static import ALLOWED
from tests.web.example_site import DATE, LONG, PICTURE, TEXT, ask, make, parsed, request, send, service, talking


@pytest.fixture
def httpd(tmp_path: Path) -> Httpd:
    return service(make(tmp_path))


@pytest.mark.parametrize(
    ("path", "media", "body"),
    [
        ("/", "text/html; charset=utf-8", b"<!DOCTYPE html><title>home</title>"),
        ("/?a=b", "text/html; charset=utf-8", b"<!DOCTYPE html><title>home</title>"),
        ("/sub/", "text/html; charset=utf-8", b"below"),
        ("/text.txt", "text/plain; charset=utf-8", TEXT),
        ("/text%2Etx%74", "text/plain; charset=utf-8", TEXT),
        ("/a%20b&c.txt", "text/plain; charset=utf-8", b"odd"),
        ("/ready.css", "text/css; charset=utf-8", TEXT),
        ("/picture.png", "image/png", PICTURE),
        ("/long.bin", "application/octet-stream", LONG),
        ("/none.txt", "text/plain; charset=utf-8", b""),
        ("http://localhost/short.txt", "text/plain; charset=utf-8", b"short"),
    ],
)
def test_file_is_served_with_type_and_cache_fields(httpd: Httpd, path: str, media: str, body: bytes) -> None:
    found = ask(httpd, path)
    assert (found.status, found.fields["Content-Type"], found.body) == (200, media, body)
    assert found.fields["Last-Modified"] == DATE
    assert found.fields["Cache-Control"] == "max-age=3600, must-revalidate"
    assert found.fields["Accept-Ranges"] == "bytes"
    assert {"Date", "Server", "ETag", "Expires"} < found.fields.keys()
    alike = ask(httpd, path, method="HEAD").fields
    changing = ("Date", "Expires")
    assert {**alike, **dict.fromkeys(changing)} == {**found.fields, **dict.fromkeys(changing)}


@pytest.mark.parametrize(
    ("method", "path", "status", "more"),
    [
        ("GET", "/nothing", 404, {}),
        ("GET", "/text.txt/", 404, {}),
        ("GET", "/text.txt/x", 404, {}),
        ("GET", "/" + "x" * 300, 404, {}),
        ("HEAD", "/nothing", 404, {}),
        ("GET", "/empty/", 403, {}),
        ("GET", "/sub", 301, {"Location": "/sub/"}),
        ("GET", "/sub?a=<b>&c=%0d%0a", 301, {"Location": "/sub/?a=%3Cb%3E&c=%0d%0a"}),
        ("GET", "/%73ub", 301, {"Location": "/%73ub/"}),
        ("GET", "//sub", 404, {}),
        ("POST", "/", 405, {"Allow": ALLOWED}),
        ("DELETE", "/text.txt", 405, {"Allow": ALLOWED}),
        ("get", "/", 501, {"Allow": ALLOWED}),
        ("BREW", "/", 501, {"Allow": ALLOWED}),
        ("OPTIONS", "/", 204, {"Allow": ALLOWED}),
        ("OPTIONS", "*", 204, {"Allow": ALLOWED}),
    ],
)
def test_unservable_targets_get_an_error(
    httpd: Httpd, method: str, path: str, status: int, more: dict[str, str]
) -> None:
    found = ask(httpd, path, method=method)
    assert found.status == status
    assert more.items() <= found.fields.items()
    assert "ETag" not in found.fields
    if found.body:
        assert found.body.startswith(b"<!DOCTYPE html>")


def test_error_page_discloses_nothing_of_the_request(httpd: Httpd) -> None:
    found = ask(httpd, "/<script>alert(1)</script>", "User-Agent: <script>")
    assert found.status == 404
    assert b"script" not in found.body
    assert "script" not in str(found.fields)


@pytest.mark.parametrize(
    ("path", "method", "status", "sentence"),
    [
        ("/nothing", "GET", 404, "There is no page at this address."),
        ("/empty/", "GET", 403, "Access to this page is not allowed."),
        ("/sub", "GET", 301, "This page has moved permanently."),
        ("/", "PUT", 405, "This page does not support the method of the request."),
        ("/", "FROB", 501, "The server does not support the method of the request."),
    ],
)
def test_an_error_page_has_the_reason_phrase_and_a_sentence(
    httpd: Httpd, path: str, method: str, status: int, sentence: str
) -> None:
    found = ask(httpd, path, method=method)
    title = f"{status} {HTTPStatus(status).phrase}"
    assert found.status == status
    assert f"<title>{title}</title>\n<h1>{title}</h1>\n<p>{sentence}\n" in found.body.decode()


@pytest.mark.parametrize(
    ("version", "field", "expected", "state"),
    [
        ("1.1", "Accept: */*", None, IDLE),
        ("1.1", "Connection: close", "close", OVER),
        ("1.0", "Accept: */*", "close", OVER),
        ("1.0", "Connection: keep-alive", "keep-alive", IDLE),
    ],
)
@pytest.mark.parametrize("path", ["/short.txt", "/long.bin", "/nothing"])
def test_connection_field_of_the_client_is_honored(
    httpd: Httpd, version: str, field: str, expected: str | None, state: int, path: str
) -> None:
    with talking(httpd) as conversation:
        found = parsed(send(conversation, request(path, field, version=version)))
        assert (found.fields.get("Connection"), conversation.state) == (expected, state)
        assert conversation.ending is (Ending.DONE if state == OVER else None)


def test_pipelined_requests_are_handled_in_order_until_a_close(httpd: Httpd) -> None:
    with talking(httpd) as conversation:
        data = send(
            conversation,
            request("/short.txt")
            + request("/long.bin")
            + request("/none.txt", method="HEAD")
            + request("/sub/", "Connection: close")
            + request("/text.txt"),
        )
    short, _, rest = data.partition(b"short")
    assert parsed(short).status == 200
    long = rest.index(LONG)
    tail = rest[long + len(LONG) :]
    assert tail.count(b"HTTP/1.1 200 OK") == 2
    assert tail.endswith(b"below")


def test_expect_100_continue_gets_100_and_the_body_is_ignored(httpd: Httpd) -> None:
    with talking(httpd) as conversation:
        asked = request("/short.txt", "Expect: 100-continue", "Content-Length: 4")
        assert conversation.receive(asked) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert parsed(conversation.receive(b"body")).body == b"short"
        assert conversation.state == IDLE


def test_malformed_request_gets_an_error_and_a_failure_500(httpd: Httpd, tmp_path: Path) -> None:
    with talking(httpd) as conversation:
        assert parsed(conversation.receive(b"GET / HTTP/1.1\r\n\r\n")).status == 400
        assert conversation.ending is Ending.MALFORMED
    broken = service(str(tmp_path / "www"), listing=True)
    broken._static = None  # type: ignore[assignment]
    with talking(broken) as conversation:
        found = parsed(conversation.receive(request("/")))
        assert (found.status, found.fields["Connection"], conversation.ending) == (500, "close", Ending.FAILED)
        assert b"NoneType" not in found.body


def test_long_file_is_closed_when_the_client_disconnects(httpd: Httpd) -> None:
    before = os.listdir("/proc/self/fd")
    conversation = Conversation(httpd)
    conversation.open()
    first = conversation.receive(request("/long.bin"))
    assert conversation.state == PENDING
    assert 0 < len(first) < len(LONG)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    conversation.close()
    assert os.listdir("/proc/self/fd") == before


def test_truncated_file_ends_the_conversation(tmp_path: Path) -> None:
    root = make(tmp_path)
    with talking(service(root)) as conversation:
        conversation.receive(request("/long.bin"))
        os.truncate(f"{root}/long.bin", 1000)
        send(conversation, b"")
        assert conversation.ending is Ending.FAILED


def test_response_is_cached_for_one_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_790_000_000.5
    monkeypatch.setattr("daemons.httpd.time", lambda: now)
    root = make(tmp_path)
    httpd = service(root)
    before = ask(httpd, "/short.txt")
    Path(root, "short.txt").write_bytes(b"other")
    assert ask(httpd, "/short.txt") == before
    now += 1
    after = ask(httpd, "/short.txt")
    assert (after.body, after.fields["Date"] != before.fields["Date"]) == (b"other", True)
    assert after.fields["ETag"] != before.fields["ETag"]
    assert after.fields["Last-Modified"] <= after.fields["Date"]
    Path(root, "short.txt").unlink()
    now -= 3600  # and when the clock is put back
    assert ask(httpd, "/short.txt").status == 404


def test_response_cache_is_bounded(httpd: Httpd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemons.web.responses.CAPACITY", 10_000)
    monkeypatch.setattr("daemons.httpd.time", lambda: 1_790_000_000.5)
    for number in range(100):
        assert ask(httpd, f"/short.txt?{number}").body == b"short"
    assert 0 < len(httpd._cache._responses) < 50


def test_listing_escapes_names(tmp_path: Path) -> None:
    root = make(tmp_path)
    page = ask(service(root, listing=True), "/empty/").body.decode()
    assert '<a href="./%3Ci%3E.txt">&lt;i&gt;.txt</a>' in page
    assert '<a href="./javascript%3Ax">' in page
    Path(root, "index.html").unlink()
    page = ask(service(root, listing=True), "/").body.decode()
    assert '<a href="./sub/">sub/</a>' in page
    assert not [name for name in (".git", ".hidden", "link.txt", "out", "fifo", "../") if name in page]
    assert ask(service(root, listing=True, hidden=True), "/.git/").status == 200


def test_options_change_the_response(tmp_path: Path) -> None:
    root = make(tmp_path)
    found = ask(service(root, index="text.txt", cache=None, hidden=True), "/")
    assert (found.body, found.fields["Cache-Control"]) == (TEXT, "no-cache")
    assert "Expires" not in found.fields
    assert ask(service(root, hidden=True), "/.git/config").status == 200
    assert ask(service(f"{root}/nosuch"), "/").status == 404


@pytest.mark.parametrize("name", ["", "..", ".", "a/b"])
def test_invalid_index_setting_is_refused(name: str) -> None:
    field = Httpd.Options.__dataclass_fields__["index"]
    with pytest.raises(ValueError, match=r"write index\.html"):
        field.metadata["kind"].parse(name)


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    kind = Httpd.Options.__dataclass_fields__["root"].metadata["kind"]
    assert kind.show(kind.parse(str(tmp_path))) == str(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        kind.parse(str(tmp_path / "nosuch"))


def test_ask_sends_a_get_for_each_path_and_closes() -> None:
    decoder = HTTP().decoder()
    sent: Any = decoder.decode(b"".join(Httpd.messages([b"/", b"x.css", b"/a b\n?c"])))
    assert decoder.error is None
    assert [(each.target, each.keep_alive) for each in sent] == [("/", True), ("/x.css", True), ("/a%20b%0A?c", False)]
