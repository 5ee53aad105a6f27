"""``daemons fetch -C``: resumption of interrupted downloads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest

from daemons.clients.web.resume import PartialFile, validator_of
from tests.clients.web.responses import OK, Capture, responding, response
from tests.clients.web.site import daemons

TAGGED = OK + b'ETag: "one"\r\nContent-Length: 10\r\n\r\n'
REST = b'HTTP/1.1 206 Partial\r\nETag: "one"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789'
NEW = OK + b'ETag: "two"\r\nContent-Length: 3\r\n\r\nnew'
SHIFTED = REST.replace(b"4-9/10", b"5-9/10").replace(b"6\r\n\r\n4", b"5\r\n\r\n")
FEWER = REST.replace(b"4-9/10", b"4-6/10").replace(b"6\r\n\r\n456789", b"3\r\n\r\n456")
NONE = b"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n"

THERE = "resuming after 4 bytes"
ANOTHER = "the file has changed, or the server ignores ranges; restarting the download"
NO_SUCH = "the server does not have the requested range; restarting the download"


@pytest.mark.parametrize(
    ("answers", "content", "messages", "resumed"),
    [
        ([TAGGED + b"0123", REST], b"0123456789", [THERE], [True]),
        ([TAGGED + b"0123", NEW], b"new", [ANOTHER], [True]),
        ([TAGGED + b"0123", SHIFTED, NEW], b"new", [NO_SUCH], [True, False]),
        ([TAGGED + b"0123", FEWER, NEW], b"new", [NO_SUCH], [True, False]),
        ([TAGGED + b"0123", NONE, NEW], b"new", [NO_SUCH], [True, False]),
        ([TAGGED + b"0123", REST.replace(b'"one"', b'"two"'), NEW], b"new", [NO_SUCH], [True, False]),
        ([TAGGED + b"0123", REST.replace(b'ETag: "one"\r\n', b"")], b"0123456789", [THERE], [True]),
        ([TAGGED.replace(b'"one"', b'W/"one"') + b"0123", NEW], b"new", [], [False]),
    ],
    ids=["the rest", "another", "another part", "fewer bytes", "no part", "part of another", "no tag", "weak"],
)
def test_interrupted_download_is_resumed(
    answers: list[bytes], content: bytes, messages: list[str], resumed: list[bool], tmp_path: Path, capsys: Capture
) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    with responding(*answers) as foreign:
        words = ("fetch", "-C", "-o", target, f"http://127.0.0.1:{foreign.port}/x")
        assert daemons(*words) == 1
        assert (target.read_text(), (tmp_path / "target.part").read_bytes()) == ("before", b"0123")
        capsys.readouterr()
        assert daemons(*words) == 0
    assert capsys.readouterr().err.splitlines() == [f"{target}: {line}" for line in messages]
    assert (target.read_bytes(), os.listdir(tmp_path)) == (content, ["target"])
    wanted = [b"bytes=4-" in received and b'If-Range: "one"\r\n' in received for received in foreign.received[1:]]
    assert wanted == resumed


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (b"45", "cut off: 2 of the 6 bytes of Content-Range were sent"),
        (b"456789more", "more than the 6 bytes of Content-Range were sent"),
    ],
)
def test_length_of_a_partial_body_must_match_content_range(
    rest: bytes, expected: str, tmp_path: Path, capsys: Capture
) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    unbounded = REST.replace(b"Content-Length: 6\r\n", b"").replace(b"456789", rest)
    with responding(TAGGED + b"0123", unbounded) as foreign:
        words = ("fetch", "-C", "-o", target, f"http://127.0.0.1:{foreign.port}/x")
        assert [daemons(*words), daemons(*words)] == [1, 1]
    assert expected in capsys.readouterr().err
    assert target.read_text() == "before"
    assert b"0123456789".startswith((tmp_path / "target.part").read_bytes())


def test_part_of_another_url_is_not_resumed(tmp_path: Path, capsys: Capture) -> None:
    target, part, of = (tmp_path / name for name in ("x", "x.part", "x.part.of"))
    with responding(NEW) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/x"
        good = {"url": url, "validator": '"one"'}
        known: list[Any] = [
            {**good, "url": f"{url}y"},
            {**good, "validator": "a\r\nb: c"},
            {**good, "validator": 1},
            [],
        ]
        for text in [*map(json.dumps, known), "{"]:
            part.write_bytes(b"0123")
            of.write_text(text)
            assert daemons("fetch", "-C", "-o", target, url) == 0
            assert (target.read_bytes(), os.listdir(tmp_path)) == (b"new", ["x"])
        assert not any(b"Range" in received for received in foreign.received)
        with PartialFile(target, url):
            capsys.readouterr()
            assert daemons("fetch", "-C", "-o", target, url) == 1
    assert capsys.readouterr().err == f"daemons fetch: {part}: locked by another download\n"
    assert os.listdir(tmp_path) == ["x"]


def test_unrequested_partial_response_is_refused(tmp_path: Path, capsys: Capture) -> None:
    with responding(REST.replace(b"4-9", b"0-5"), REST) as foreign:
        assert daemons("fetch", "-C", "-o", tmp_path / "x", f"http://127.0.0.1:{foreign.port}/") == 1
    assert capsys.readouterr().err.endswith("a part was sent, but no range was requested\n")
    assert os.listdir(tmp_path) == []


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def test_part_of_a_version_with_another_date_is_not_appended(tmp_path: Path) -> None:
    """A server may ignore If-Range, and send a part of the file as it is now."""
    target = tmp_path / "x"
    dates = f"Last-Modified: {DATE}\r\nDate: {DATE.replace('49', '51')}\r\n".encode("ascii")
    first = OK + dates + b"Content-Length: 10\r\n\r\n0123"
    rest = REST.replace(b'ETag: "one"\r\n', dates)
    with responding(first, rest.replace(b"06 Nov 1994 08:49", b"07 Nov 1994 08:49"), NEW, first, rest) as foreign:
        words = ("fetch", "-C", "-o", target, f"http://127.0.0.1:{foreign.port}/")
        assert [daemons(*words), daemons(*words)] == [1, 0]
        assert target.read_bytes() == b"new"
        assert [daemons(*words), daemons(*words)] == [1, 0]
        assert target.read_bytes() == b"0123456789"


def test_redirect_of_a_resumed_download_is_not_followed_with_no_redirects(tmp_path: Path, capsys: Capture) -> None:
    with responding(response(b"there\n", "Location: /y", status="302 Found"), response(b"y")) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/x"
        assert daemons("fetch", "-C", "-o", tmp_path / "x", "--no-redirects", url) == 1
    assert capsys.readouterr() == ("there\n", f"daemons fetch: {url}: 302 Found; expected 200 or 206\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("fields", "validator"),
    [
        ({"ETag": '"x"', "Last-Modified": DATE}, '"x"'),
        ({"ETag": 'W/"x"'}, ""),
        ({"ETag": "x"}, ""),
        ({"Last-Modified": DATE, "Date": "Sun, 06 Nov 1994 08:50:37 GMT"}, DATE),
        ({"Last-Modified": DATE, "Date": "Sun, 06 Nov 1994 08:50:36 GMT"}, ""),
        ({"Last-Modified": DATE}, ""),
        ({"Last-Modified": "soon", "Date": DATE}, ""),
        ({"Last-Modified": DATE.replace("GMT", "+" + "9" * 20), "Date": DATE}, ""),
        ({"Last-Modified": "Sun, 06 Nov 1994 08:49:37 -0000", "Date": DATE}, ""),
    ],
)
def test_strong_validator_of_a_response(fields: dict[str, str], validator: str) -> None:
    assert validator_of(httpx2.Response(200, headers=fields)) == validator


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_special_file_is_not_replaced(kind: str, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "target"
    os.mkfifo(target) if kind == "fifo" else target.mkdir()
    with responding(response(b"x")) as foreign:
        assert daemons("fetch", "-C", "-o", target, f"http://127.0.0.1:{foreign.port}/") == 1
    assert "not a regular file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [target]


def test_validator_file_that_is_a_fifo_is_refused(tmp_path: Path, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "f.part.of")
    with responding(response(b"x")) as foreign:
        assert daemons("fetch", "-C", "-o", tmp_path / "f", f"http://127.0.0.1:{foreign.port}/") == 1
        assert not foreign.received
    assert capsys.readouterr().err == f"daemons fetch: -C: {tmp_path}/f.part.of is not a regular file\n"


def test_a_symbolic_link_is_kept(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with responding(response(b"x")) as foreign:
        assert daemons("fetch", "-C", "-o", tmp_path / "link", f"http://127.0.0.1:{foreign.port}/") == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x"


def test_invalid_validator_file_is_ignored(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "f.part").write_text("y")
    (tmp_path / "f.part.of").write_text("[" * 16_000)
    with responding(response(b"x")) as foreign:
        assert daemons("fetch", "-C", "-o", tmp_path / "f", f"http://127.0.0.1:{foreign.port}/") == 0
    assert (tmp_path / "f").read_text() == "x"
