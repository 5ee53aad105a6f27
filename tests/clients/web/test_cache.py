"""``daemons fetch --cache``: fresh, revalidated and damaged responses."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from tests.certificates import folder
from tests.clients.web.conftest import Running
from tests.clients.web.responses import Capture, responding, response
from tests.clients.web.site import daemons
from tests.serving.running import Within
from tests.web import example_site as served


def test_fresh_and_revalidated_responses_come_from_the_cache(site: Running, tmp_path: Path, capsys: Capture) -> None:
    cached = ("--cache", tmp_path / "c")
    for path, logged, requests in (
        ("fresh", "from the cache\n", ["GET /fresh"]),
        ("tagged", "from the cache, 304 Not Modified\n", ["GET /tagged", "GET /tagged"]),
        ("good", "", ["GET /good", "GET /good"]),
    ):
        assert daemons("fetch", f"{site.url}/{path}", *cached) == 0
        first = capsys.readouterr()
        assert first.err == ""
        assert daemons("fetch", f"{site.url}/{path}", *cached) == 0
        assert capsys.readouterr() == (first.out, logged)
        assert site.requests == requests
        site.received.clear()
    assert daemons("fetch", f"{site.url}/fresh", "-u", "a:b", *cached) == 0
    assert site.requests == ["GET /fresh"]
    for spoil in ("UPDATE streams SET chunk_data = X'78'", "DELETE FROM streams"):
        with closing(sqlite3.connect(tmp_path / "c" / "answers.db", isolation_level=None)) as database:
            database.execute(spoil)
        capsys.readouterr()
        assert daemons("fetch", f"{site.url}/fresh", *cached, "-o", tmp_path / "target") == 1
        expected = f"daemons fetch: --cache {tmp_path}/c: a stored response is damaged; delete the folder\n"
        assert capsys.readouterr().err == f"from the cache\n{expected}"
        assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    "options",
    [("-u", "a:b"), ("-H", "Cookie: a=b"), ("-H", "Host: other"), ("-k",), ("-H", "X-Api-Key: k")],
    ids=["user", "cookie", "host", "unverified", "key"],
)
def test_response_to_another_user_or_of_another_server_is_not_served(
    options: tuple[str, ...], site: Running, tmp_path: Path, capsys: Capture
) -> None:
    words = ("fetch", f"{site.url}/fresh", "--cache", tmp_path / "c")
    for more in ((), options, (), options):
        assert daemons(*words, *more) == 0
    assert capsys.readouterr() == ("fresh" * 4, "from the cache\n" * 2)
    assert site.requests == ["GET /fresh"] * 2
    assert daemons(*words, "--unix-socket", tmp_path / "nowhere") == 1


def test_response_verified_with_another_ca_is_not_served(site: Running, tmp_path: Path, capsys: Capture) -> None:
    words = ("fetch", f"{site.url}/fresh", "--cache", tmp_path / "c")
    for more in (("--cafile", folder() / "ca.pem"), (), ("--cafile", folder() / "ca.pem")):
        assert daemons(*words, *more) == 0
    assert capsys.readouterr() == ("fresh" * 3, "from the cache\n")
    assert site.requests == ["GET /fresh"] * 2


def test_response_to_a_request_with_no_store_is_not_stored(site: Running, tmp_path: Path, capsys: Capture) -> None:
    words = ("fetch", f"{site.url}/fresh", "--cache", tmp_path / "c")
    for more in (("-H", "Cache-Control: max-age=0, No-Store"), ()):
        assert daemons(*words, *more) == 0
    assert capsys.readouterr() == ("fresh" * 2, "")
    assert site.requests == ["GET /fresh"] * 2


@pytest.mark.parametrize(
    "field",
    [
        "Cache-Control: no-cache",
        "Cache-Control: max-stale, Max-Age=0",
        "cache-control: min-fresh=9",
        "Pragma: no-cache",
    ],
)
def test_fresh_response_is_revalidated_if_the_request_demands_it(
    field: str, site: Running, tmp_path: Path, capsys: Capture
) -> None:
    words = ("fetch", f"{site.url}/fresh", "--cache", tmp_path / "c")
    for more, requests in (((), 1), ((), 1), (("-H", field), 2), ((), 2)):
        assert daemons(*words, *more) == 0
        assert len(site.requests) == requests
    assert capsys.readouterr().out == "fresh" * 4


def test_only_a_stored_response_is_served_with_only_if_cached(site: Running, tmp_path: Path, capsys: Capture) -> None:
    words = ("fetch", f"{site.url}/fresh", "--cache", tmp_path / "c")
    only = ("-H", "Cache-Control: only-if-cached")
    assert [daemons(*words, *only), daemons(*words), daemons(*words, *only)] == [1, 0, 0]
    assert site.requests == ["GET /fresh"]
    printed = capsys.readouterr()
    assert printed.out == "fresh" * 2
    assert printed.err == f"daemons fetch: {site.url}/fresh: 504 Gateway Timeout\nfrom the cache\n"


def test_response_with_dates_of_distant_years_is_accepted(tmp_path: Path, capsys: Capture) -> None:
    distant = ("Expires: Mon, 01 Jan 0001 00:00:00 GMT", "Date: Fri, 31 Dec 9999 23:59:59 GMT")
    with responding(response(b"x", *distant)) as foreign:
        assert daemons("fetch", f"http://127.0.0.1:{foreign.port}/", "--cache", tmp_path / "c") == 0
    assert capsys.readouterr() == ("x", "")


def test_httpd_serves_compressed_ranged_and_cached_responses(
    within: Callable[..., Within], tmp_path: Path, capsys: Capture
) -> None:
    running = within("loop", Pump.for_service(served.service(served.make(tmp_path))), Limits())
    url = "http://{}:{}".format(*running.address)
    for pattern in (r"(?s).*\nContent-Encoding: gzip\n.*", "from the cache\n"):
        assert daemons("fetch", "-v", "--cache", tmp_path / "c", f"{url}/text.txt") == 0
        output = capsys.readouterr()
        assert output.out.encode() == served.TEXT
        assert re.fullmatch(pattern, output.err)
    target = tmp_path / "long"
    assert daemons("fetch", "-I", "-H", "Accept-Encoding: identity", f"{url}/long.bin") == 0
    etag = re.findall(r"\nETag: (.*)\n", capsys.readouterr().out)[0]
    (tmp_path / "long.part.of").write_text(json.dumps({"url": f"{url}/long.bin", "validator": etag}))
    (tmp_path / "long.part").write_bytes(served.LONG[:100_000])
    assert daemons("fetch", "-C", "-o", target, f"{url}/long.bin") == 0
    assert capsys.readouterr().err == f"{target}: resuming after 100000 bytes\n"
    assert target.read_bytes() == served.LONG
