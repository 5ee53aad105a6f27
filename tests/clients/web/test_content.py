"""Content codings: complete or an error, and bounded memory."""

from __future__ import annotations

import bz2
import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.clients.web import content
from daemons.clients.web.content import gunzip, inflate
from tests.clients.web.responses import Capture, responding, response
from tests.clients.web.site import daemons
from tests.operating.live import environment

TEXT = b"Listen. Strange women lying in ponds distributing swords is no basis for a system of government.\n" * 50

#: Deterministic: all processes that run the tests must collect the same parameters.
compressed = partial(gzip.compress, mtime=0)

WHOLE = compressed(TEXT)


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def fetched(answer: bytes, target: Path, *words: str) -> int:
    """Fetch one response to `target`; return the exit code."""
    with responding(answer) as foreign:
        return daemons("fetch", f"http://127.0.0.1:{foreign.port}/", "-o", target, *words)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", WHOLE),
        ("GZip", WHOLE),
        ("x-gzip", WHOLE),
        ("identity, gzip", WHOLE),
        ("gzip", compressed(TEXT[:1000]) + compressed(TEXT[1000:1001]) + compressed(TEXT[1001:])),
        ("gzip", b"".join(compressed(TEXT[at : at + 7]) for at in range(0, len(TEXT), 7))),
        ("gzip", compressed(b"") + WHOLE + compressed(b"")),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("identity", TEXT),
        ("", TEXT),
    ],
)
def test_coded_body_is_decoded(coding: str, body: bytes, tmp_path: Path, capsys: Capture) -> None:
    assert fetched(response(body, f"Content-Encoding: {coding}"), tmp_path / "x") == 0
    assert (tmp_path / "x").read_bytes() == TEXT
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("coding", "body", "expected"),
    [
        ("gzip", WHOLE[:-1], "truncated"),
        ("gzip", WHOLE[:-8], "truncated"),
        ("gzip", WHOLE[: len(WHOLE) // 2], "truncated"),
        ("gzip", WHOLE[:5], "truncated"),
        ("gzip", WHOLE + WHOLE[:-8], "truncated"),
        ("gzip", WHOLE + b"garbage", "error -3"),
        ("gzip", WHOLE + b"\0", "truncated"),
        ("gzip", WHOLE + b"\0" * 512, "error -3"),
        ("gzip", WHOLE[:-8] + bytes(8), "error -3"),
        ("gzip", TEXT, "error -3"),
        ("gzip", zlib.compress(TEXT), "error -3"),
        ("deflate", zlib.compress(TEXT)[:-1], "truncated"),
        ("deflate", raw_deflate(TEXT)[:-1], "truncated"),
        ("deflate", zlib.compress(TEXT) + b"x", "data after the end"),
        ("deflate", raw_deflate(TEXT) + b"x", "data after the end"),
        ("deflate", b"x", "truncated"),
        ("deflate", WHOLE, "error -3"),
        ("gzip, gzip", compressed(WHOLE), "more than one coding; one is accepted"),
        ("gzip, gzip, gzip", compressed(compressed(WHOLE)), "more than one coding"),
        ("br", TEXT, "not supported; gzip and deflate are"),
        ("zstd", TEXT, "not supported"),
        ("bzip2", bz2.compress(TEXT), "not supported"),
        ("aws-chunked", TEXT, "not supported"),
        ("\x7f\xff", TEXT, ""),
    ],
)
def test_a_malformed_body_is_an_error_and_leaves_the_file(
    coding: str, body: bytes, expected: str, tmp_path: Path, capsys: Capture
) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    assert fetched(response(body, f"Content-Encoding: {coding}"), target) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), expected in err) == ("", 1, True)
    assert (os.listdir(tmp_path), target.read_text()) == (["target"], "before")


def test_codings_in_two_fields_are_two_codings(tmp_path: Path, capsys: Capture) -> None:
    answer = response(compressed(WHOLE), "Content-Encoding: gzip", "Content-Encoding: gzip")
    assert fetched(answer, tmp_path / "x") == 1
    assert "Content-Encoding: gzip, gzip: more than one coding" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_only_supported_codings_are_requested(tmp_path: Path) -> None:
    with responding(response(b"")) as foreign:
        assert daemons("fetch", f"http://127.0.0.1:{foreign.port}/") == 0
    assert b"\r\nAccept-Encoding: gzip\r\n" in foreign.received[0]


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_an_empty_body_with_a_coding_is_empty(status: str, tmp_path: Path) -> None:
    code = fetched(response(b"", "Content-Encoding: gzip", status=status), tmp_path / "x")
    assert code == (0 if status.startswith("200") else 1)


@cache
def zeros(size: int, wbits: int = zlib.MAX_WBITS | 16) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(compressor.compress(bytes(1024 * 1024)) for _ in range(size)) + compressor.flush()


def members(size: int) -> bytes:
    return zeros(1) * size


#: Runs a command and prints its peak resident memory; the usage of a child process would include its parent's.
MEASURE = """
import re, sys
from daemons.cli.command import main
code = main(sys.argv[1:])
print(re.search("VmHWM:\\s*([0-9]+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


def measured(folder: Path, *words: str) -> tuple[int, str, int]:
    """Run a command to its end; return its exit code, standard error, and peak of resident memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        cwd=folder,
        timeout=60,
    )
    err, _, peak = done.stderr.removesuffix("\n").rpartition("\n")
    return done.returncode, f"{err}\n", int(peak) * 1024


@pytest.mark.parametrize(
    ("coding", "make"),
    # Functions, so that the bodies are made only by the process that runs the tests.
    [("gzip", zeros), ("gzip", members), ("deflate", partial(zeros, wbits=-zlib.MAX_WBITS))],
    ids=["one member", "many members", "deflate"],
)
@pytest.mark.parametrize("word", ["fetch", "links", "scrape"])
def test_decompression_bomb_is_refused_in_bounded_memory(
    word: str, coding: str, make: Callable[[int], bytes], tmp_path: Path
) -> None:
    answer = response(make(400), f"Content-Encoding: {coding}", "Content-Type: text/html")
    robots = response(b"", status="404 Not Found")
    with responding(*([robots] if word == "scrape" else []), answer) as foreign:
        words = [word, f"http://127.0.0.1:{foreign.port}/", *(("-o", "x") if word == "fetch" else ())]
        code, err, rss = measured(tmp_path, *words)
    assert (code, err.count("\n")) == (1, 1)
    assert ("decompression bomb" if word == "fetch" else "longer than 8388608 bytes") in err
    # The interpreter and its libraries take about 50 MiB.
    assert rss < 120 * 1024 * 1024
    assert os.listdir(tmp_path) == []


def test_large_compressible_data_is_accepted(tmp_path: Path) -> None:
    body = zeros(content.ALLOWANCE // (1024 * 1024))
    assert fetched(response(body, "Content-Encoding: gzip"), tmp_path / "x") == 0
    assert (tmp_path / "x").stat().st_size == content.ALLOWANCE


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(texts=st.lists(st.binary(max_size=200), min_size=1, max_size=5), sizes=st.lists(st.integers(0, 40)))
def test_gzip_decoding_is_independent_of_chunk_boundaries(texts: list[bytes], sizes: list[int]) -> None:
    assert b"".join(gunzip(cut(b"".join(map(compressed, texts)), sizes))) == b"".join(texts)


@given(data=st.binary(max_size=300), sizes=st.lists(st.integers(0, 40)), raw=st.booleans())
def test_deflate_decoding_is_independent_of_chunk_boundaries(data: bytes, sizes: list[int], raw: bool) -> None:
    whole = raw_deflate(data) if raw else zlib.compress(data)
    assert b"".join(inflate(cut(whole, sizes))) == data


@given(data=st.binary(max_size=200), sizes=st.lists(st.integers(1, 40)), end=st.integers(0, 10_000))
def test_any_truncation_is_an_error(data: bytes, sizes: list[int], end: int) -> None:
    for compress, decode in ((gzip.compress, gunzip), (zlib.compress, inflate), (raw_deflate, inflate)):
        whole = compress(data)
        part = whole[: 1 + end % (len(whole) - 1)]
        with pytest.raises((EOFError, zlib.error)):
            list(decode(cut(part, sizes)))


@pytest.mark.parametrize("status", ["304 Not Modified", "204 No Content", "205 Reset Content"])
def test_a_response_without_content_leaves_the_file(status: str, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    answer = f'HTTP/1.1 {status}\r\nETag: "x"\r\nConnection: close\r\n\r\n'.encode()
    assert fetched(answer, target, "-H", 'If-None-Match: "x"') == 0
    assert capsys.readouterr() == ("", f"{target}: not written: {status}\n")
    assert (os.listdir(tmp_path), target.read_text()) == (["target"], "before")
    target.unlink()
    assert fetched(answer, target, "-H", 'If-None-Match: "x"') == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        ("200 OK", b"", ("-X", "HEAD")),
        ("200 OK", b"", ("-X", "head")),
        ("300 Multiple Choices", b"", ()),
        ("302 Found", b"", ()),
        ("302 Found", b"", ("--no-redirects",)),
        ("302 Found", b"elsewhere", ("--no-redirects",)),
    ],
)
def test_response_that_is_not_the_file_leaves_it_unchanged(
    status: str, body: bytes, words: tuple[str, ...], tmp_path: Path, capsys: Capture
) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    location = ["Location: /x"] if "--no-redirects" in words else []
    assert fetched(response(body, *location, status=status), target, *words) == 0
    assert capsys.readouterr().err == f"{target}: not written: {status}\n"
    assert (os.listdir(tmp_path), target.read_text()) == (["target"], "before")


def test_unrequested_partial_response_is_refused(tmp_path: Path, capsys: Capture) -> None:
    part = response(b"half", "Content-Range: bytes 0-3/8", status="206 Partial Content")
    assert fetched(part, tmp_path / "x") == 1
    assert capsys.readouterr().err.endswith("/: 206: a part was sent, but no range was requested\n")
    assert fetched(part, tmp_path / "x", "-H", "Range: bytes=0-3") == 0
    assert (tmp_path / "x").read_bytes() == b"half"


def test_coded_body_is_not_resumed(tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "x"
    tag = 'ETag: "1"'
    cut_off = response(WHOLE, "Content-Encoding: gzip", tag)[:-20]
    with responding(cut_off, response(TEXT, tag)) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/"
        assert daemons("fetch", url, "-C", "-o", target) == 1
        assert daemons("fetch", url, "-C", "-o", target) == 0
    assert target.read_bytes() == TEXT
    assert b"Range" not in foreign.received[1]
