"""Conditional requests, range requests and content codings."""

from __future__ import annotations

import gzip
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.httpd import Httpd
from daemons.web.dates import http_date
from daemons.web.files.conditions import Validators, date, evaluate_if_range, evaluate_preconditions
from daemons.web.files.lookup import Files
from daemons.web.files.negotiation import LONGEST, CompressionCache, prefers_gzip
from daemons.web.files.ranges import ranges_of
from daemons.web.files.static import SELECTING_FIELDS
from tests.web.example_site import DATE, LONG, PICTURE, TEXT, WRITTEN, ask, make, service

HAVE = Validators('"tag"', WRITTEN)
BEFORE, AFTER = http_date(WRITTEN - 1), http_date(WRITTEN + 1)


@pytest.fixture(scope="module")
def site() -> Iterator[Httpd]:
    with tempfile.TemporaryDirectory() as folder:
        yield service(make(Path(folder)))


@pytest.fixture
def httpd(tmp_path: Path) -> Httpd:
    return service(make(tmp_path))


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (200, {}),
        (304, {"if-none-match": '"tag"'}),
        (304, {"if-none-match": 'W/"tag"'}),
        (304, {"if-none-match": "*"}),
        (304, {"if-none-match": '"a", W/"b" ,"tag"'}),
        (304, {"if-none-match": ',, "a,b","tag",'}),
        (200, {"if-none-match": '"tag'}),
        (200, {"if-none-match": "tag"}),
        (200, {"if-none-match": '"a" "tag"'}),
        (200, {"if-none-match": ""}),
        (200, {"if-none-match": '"other"'}),
        # If-None-Match takes precedence over If-Modified-Since.
        (200, {"if-none-match": '"other"', "if-modified-since": AFTER}),
        (304, {"if-none-match": '"tag"', "if-modified-since": BEFORE}),
        (304, {"if-modified-since": DATE}),
        (304, {"if-modified-since": AFTER}),
        (200, {"if-modified-since": BEFORE}),
        (200, {"if-modified-since": "yesterday"}),
        (200, {"if-match": '"tag"'}),
        (200, {"if-match": "*"}),
        (412, {"if-match": 'W/"tag"'}),
        (412, {"if-match": '"other"'}),
        (412, {"if-match": "nonsense"}),
        # If-Match takes precedence over If-Unmodified-Since, and both over the others.
        (200, {"if-match": '"tag"', "if-unmodified-since": BEFORE}),
        (412, {"if-match": '"other"', "if-none-match": '"tag"'}),
        (412, {"if-unmodified-since": BEFORE}),
        (412, {"if-unmodified-since": BEFORE, "if-none-match": '"tag"'}),
        (304, {"if-unmodified-since": DATE, "if-none-match": '"tag"'}),
        (200, {"if-unmodified-since": DATE}),
        (200, {"if-unmodified-since": f"{BEFORE}, {BEFORE}"}),
    ],
)
def test_conditions_in_the_order_of_the_rfc(status: int, fields: dict[str, str]) -> None:
    assert evaluate_preconditions(fields, HAVE) == status


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ("Sun, 06 Nov 1994 08:49:37 +0100", None),
        ("Sun, 06 Now 1994 08:49:37 GMT", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:49:37 GMT", None),
        ("Fri, 31 Dec 9999 23:59:60 GMT", None),
        ("١٢", None),
        ("", None),
        (None, None),
    ],
)
def test_dates_in_three_forms(text: str | None, seconds: int | None) -> None:
    assert date(text) == seconds


@pytest.mark.parametrize(
    ("value", "now", "good"),
    [
        (None, WRITTEN, True),
        ('"tag"', WRITTEN, True),
        ('W/"tag"', WRITTEN, False),
        ('"other"', WRITTEN, False),
        (DATE, WRITTEN + 1, True),
        (DATE, WRITTEN, False),  # it may be written once more in this second
        (AFTER, WRITTEN + 9, False),
        ("nonsense", WRITTEN + 9, False),
    ],
)
def test_if_range_allows_a_range_of_an_unchanged_file(value: str | None, now: int, good: bool) -> None:
    assert evaluate_if_range(value, HAVE, now) == good


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-", [(0, 100)]),
        ("Bytes=90-200", [(90, 100)]),
        ("bytes=-1", [(99, 100)]),
        ("bytes=-1000", [(0, 100)]),
        ("bytes=0-1, 5-6 ,,98-", [(0, 2), (5, 7), (98, 100)]),
        ("bytes=5-6,0-1", [(5, 7), (0, 2)]),
        ("bytes=100-", []),
        ("bytes=-0", []),
        ("bytes=100-,200-300", []),
        ("bytes=100-,3-3", [(3, 4)]),
        ("bytes=2-1", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2-3", None),
        ("bytes=--1", None),
        ("bytes=0x1-2", None),
        ("bytes 0-1", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 19 + "-", None),
        ("bytes=0-,0-", None),
        ("bytes=" + ",".join(f"{at}-{at}" for at in range(16)), [(at, at + 1) for at in range(16)]),
        ("bytes=" + ",".join(f"{at}-{at}" for at in range(17)), None),
        ("bytes=" + ",".join(["0-"] * 1000), None),
    ],
)
def test_ranges_of_a_hundred_bytes(value: str, found: list[tuple[int, int]] | None) -> None:
    assert ranges_of(value, 100) == found


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("x-gzip", True),
        ("br, GZIP ; q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("identity;q=0", False),
        ("*;q=0", False),
        ("gzip;q=1.5", False),
        ("gzip;q=x", False),
        ("gzip;level=1", False),
        ("gzipped", False),
    ],
)
def test_codings_by_their_weights(value: str | None, wanted: bool) -> None:
    assert prefers_gzip(value) == wanted


@pytest.mark.parametrize(
    ("path", "body"), [("/text.txt", TEXT), ("/ready.css", TEXT), ("/stale.css", TEXT), ("/index.html", None)]
)
def test_text_is_compressed_if_accepted(httpd: Httpd, path: str, body: bytes | None) -> None:
    plain = ask(httpd, path)
    packed = ask(httpd, path, "Accept-Encoding: gzip, deflate")
    assert (plain.fields["Vary"], packed.fields["Vary"]) == ("Accept-Encoding", "Accept-Encoding")
    assert "Content-Encoding" not in plain.fields
    if body is None:  # too short to be worth it
        assert packed.body == plain.body
        return
    assert packed.fields["Content-Encoding"] == "gzip"
    assert (plain.body, gzip.decompress(packed.body)) == (body, body)
    # Each representation has its own entity tag.
    tags = plain.fields["ETag"], packed.fields["ETag"]
    assert tags[0] != tags[1]
    assert ask(httpd, path, f"If-None-Match: {tags[1]}").status == 200
    again = ask(httpd, path, f"If-None-Match: {tags[1]}", "Accept-Encoding: gzip")
    assert (again.status, again.fields["ETag"], again.fields["Vary"]) == (304, tags[1], "Accept-Encoding")
    part = ask(httpd, path, "Range: bytes=2-9", "Accept-Encoding: gzip")
    assert (part.status, part.body) == (206, packed.body[2:10])
    other = ask(httpd, path, "Range: bytes=2-9", f"If-Range: {tags[0]}", "Accept-Encoding: gzip")
    assert (other.status, other.body) == (200, packed.body)


def test_incompressible_file_is_sent_unchanged(httpd: Httpd) -> None:
    for path in ("/noise.txt", "/picture.png", "/ready.css.gz"):
        found = ask(httpd, path, "Accept-Encoding: gzip")
        assert "Content-Encoding" not in found.fields, path
        assert ("Vary" in found.fields) == path.endswith("txt")


def test_compressed_files_are_cached_within_the_capacity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(TEXT)
    (tmp_path / "long").write_bytes(b"x" * (LONGEST + 1))
    compressed = CompressionCache()
    with Files(str(tmp_path)).folder([]) as folder:
        file, long = folder.open(b"a")._replace(changed=1), folder.open(b"long")
    try:
        first = compressed.of(file)
        assert first is not None
        assert compressed.of(file) is first
        assert compressed.of(long) is None
        monkeypatch.setattr("daemons.web.files.negotiation.CAPACITY", 2000)
        for modified in range(100):
            assert compressed.of(file._replace(modified=modified)) == first
        assert len(compressed._known) < 5
    finally:
        os.close(file.descriptor)
        os.close(long.descriptor)


def test_file_replaced_with_the_same_mtime_is_sent_anew(tmp_path: Path) -> None:
    """As by `cp -p`, or by two changes within a tick of the kernel's clock."""
    file = tmp_path / "page.txt"
    httpd = service(str(tmp_path))
    for content in (b"old." * 100, b"new." * 100):
        file.write_bytes(content)
        os.utime(file, (WRITTEN, WRITTEN))
        found = ask(httpd, "/page.txt", "Accept-Encoding: gzip", f"X-Number: {content[:3].decode()}")
        assert (found.fields["Content-Encoding"], gzip.decompress(found.body)) == ("gzip", content)
    compressed = CompressionCache()
    with Files(str(tmp_path)).folder([]) as folder:
        tick = folder.open(b"page.txt")
    try:
        compressed.of(tick)
        file.write_bytes(b"next" * 100)
        os.utime(file, (WRITTEN, WRITTEN))
        again = compressed.of(tick)
        assert again is not None
        assert gzip.decompress(again) == b"next" * 100
    finally:
        os.close(tick.descriptor)


def test_unchanged_file_gets_304(httpd: Httpd) -> None:
    whole = ask(httpd, "/picture.png")
    for field in (f"If-None-Match: {whole.fields['ETag']}", f"If-Modified-Since: {DATE}"):
        for method in ("GET", "HEAD"):
            found = ask(httpd, "/picture.png", field, method=method)
            assert (found.status, found.fields["ETag"]) == (304, whole.fields["ETag"])
            assert {"Cache-Control", "Expires", "Date"} < found.fields.keys()
            assert "Content-Length" not in found.fields
    # Repeated fields are one list.
    tags = ('If-None-Match: "a"', f"If-None-Match: {whole.fields['ETag']}")
    assert ask(httpd, "/picture.png", *tags).status == 304
    assert ask(httpd, "/picture.png", 'If-Match: "other"', "Range: bytes=0-1").status == 412


@pytest.mark.parametrize("path", ["/picture.png", "/long.bin"])
def test_range_of_a_file_gets_206(httpd: Httpd, path: str) -> None:
    content = PICTURE if path == "/picture.png" else LONG
    size = len(content)
    for text, start, end in (("0-0", 0, 1), ("10-", 10, size), ("-7", size - 7, size), (f"5-{size + 9}", 5, size)):
        found = ask(httpd, path, f"Range: bytes={text}")
        assert (found.status, found.body) == (206, content[start:end])
        assert found.fields["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
    none = ask(httpd, path, f"Range: bytes={size}-")
    assert (none.status, none.fields["Content-Range"]) == (416, f"bytes */{size}")
    assert ask(httpd, path, "Range: bytes=0-0", method="HEAD").status == 200
    for ignored in ("lines=0-1", "bytes=1-0"):
        assert ask(httpd, path, f"Range: {ignored}").body == content
    assert ask(httpd, path, "Range: bytes=0-0", f"If-Range: {DATE}").status == 206
    assert ask(httpd, path, "Range: bytes=0-0", f"If-Range: {AFTER}").status == 200


#: Fragments of field values.
PIECES = st.sampled_from(
    ["bytes=", "0-", "-", "1", "9" * 19, ",", ", ", '"', "W/", "*", "gzip", ";q=", "0.5", "identity", DATE, "\xff", " "]
)
VALUES = st.lists(PIECES, max_size=8).map("".join)


@given(st.dictionaries(st.sampled_from(sorted(SELECTING_FIELDS)), VALUES, max_size=4), st.sampled_from(["GET", "HEAD"]))
def test_any_conditional_fields_get_a_response(site: Httpd, fields: dict[bytes, str], method: str) -> None:
    lines = [f"{name.decode()}: {value}" for name, value in fields.items()]
    assert ask(site, "/text.txt", *lines, method=method).status in (200, 206, 304, 412, 416)


@pytest.mark.parametrize("path", ["/picture.png", "/long.bin"])
def test_several_ranges_get_a_multipart_response(httpd: Httpd, path: str) -> None:
    content = PICTURE if path == "/picture.png" else LONG
    size = len(content)
    wanted = ((0, 1), (20, size - 100), (size - 3, size))
    text = ",".join(f"{start}-{end - 1}" for start, end in wanted)
    found = ask(httpd, path, f"Range: bytes={text}")
    assert found.status == 206
    assert "Content-Range" not in found.fields
    match = re.fullmatch("multipart/byteranges; boundary=([0-9a-f]{24})", found.fields["Content-Type"])
    assert match
    media = "image/png" if path == "/picture.png" else "application/octet-stream"
    assert found.body == b"".join(
        f"\r\n--{match[1]}\r\nContent-Type: {media}\r\nContent-Range: bytes {start}-{end - 1}/{size}\r\n\r\n".encode()
        + content[start:end]
        for start, end in wanted
    ) + (f"\r\n--{match[1]}--\r\n".encode())


@pytest.mark.parametrize("wanted", ["0-", "0-0", "5-", "-5", "0-,1-", "-0"])
def test_any_range_of_an_empty_file_gets_200(site: Httpd, wanted: str) -> None:
    for method in ("GET", "HEAD"):
        found = ask(site, "/none.txt", f"Range: bytes={wanted}", method=method)
        assert (found.status, found.fields["Content-Length"], found.body) == (200, "0", b"")
        assert "Content-Range" not in found.fields
