"""Malformed cookies, and freshness of cached responses (RFC 9111)."""

from __future__ import annotations

import time
import warnings
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.clients.web.responses import Capture, responding, response
from tests.clients.web.site import daemons

#: Values of Set-Cookie that make `http.cookiejar` fail, or may.
BAD_COOKIES = [
    "bad=1; Expires=Thu, 32 Foo 2030 00:00:00 GMT",
    "bad=1; Expires=Thu, 32 Foo",
    "bad=1; Expires=Thu, 99 Jan 99999 99:99:99 GMT",
    "bad=1; Max-Age=1e9; Version=x",
    "bad=1; Version=1; Port=x; Domain=.",
    "bad=1; Domain=..; Path=\\",
    "bad=\xff; Expires=\xff",
    "=; =; =",
    ";" * 1000,
    "bad=" + "x" * 50_000,
    "bad=1; Domain=xn--a.invalid",
    "bad=1; Max-Age=-" + "9" * 5000,
]


@pytest.mark.parametrize("bad", BAD_COOKIES, ids=lambda text: repr(text[:40]))
def test_malformed_cookie_does_not_affect_the_others(bad: str, tmp_path: Path, capsys: Capture) -> None:
    fields = [f"Set-Cookie: {text}" for text in ("first=1; Path=/", bad, "last=2; Max-Age=1000")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with responding(response(b"", *fields), response(b"")) as foreign:
            for _ in range(2):
                assert daemons("fetch", "--jar", tmp_path / "jar", f"http://127.0.0.1:{foreign.port}/") == 0
    assert capsys.readouterr() == ("", "")
    (sent,) = [line for line in foreign.received[1].split(b"\r\n") if line.startswith(b"Cookie: ")]
    assert {b"first=1", b"last=2"} <= set(sent.removeprefix(b"Cookie: ").split(b"; "))


NOW = time.time()


def at(date: float, expires: float) -> list[str]:
    """Return the fields Date and Expires, in seconds from now."""
    return [f"Date: {formatdate(NOW + date, usegmt=True)}", f"Expires: {formatdate(NOW + expires, usegmt=True)}"]


@pytest.mark.parametrize(
    ("fields", "requests"),
    [
        (["Cache-Control: max-age=1000"], 1),
        (["Cache-Control: max-age=1000", "Age: 10"], 1),
        (["Cache-Control: max-age=1000", "Age: 2000"], 2),
        (["Cache-Control: max-age=1000", "Age: 99999999999999999999"], 1),
        (["Cache-Control: max-age=1000", "Age: -1"], 1),
        (["Cache-Control: max-age=1000", "Cache-Control: no-store"], 2),
        (["Cache-Control: no-cache", "Cache-Control: max-age=1000"], 2),
        (["Cache-Control: public", "Cache-Control: max-age=1000"], 1),
        (["Cache-Control: max-age=1000", f"Date: {formatdate(NOW - 2000, usegmt=True)}"], 2),
        (["Cache-Control: max-age=1", f"Date: {formatdate(NOW - 2, usegmt=True)}"], 2),
        (["Cache-Control: max-age=1000", "Date: yesterday"], 1),
        # NOW is the time of the import, which may be an hour ago.
        (at(0, 100_000), 1),
        ([*at(0, 100_000), "Age: 200000"], 2),
        (["Date: Thu, 01 Jan 1970 00:00:00 GMT", "Expires: Fri, 31 Dec 9999 23:59:59 GMT"], 1),
        (["Date: Thu, 01 Jan 0001 00:00:00 GMT", "Expires: Thu, 01 Jan 0001 00:00:00 GMT", "Age: 9999999999"], 2),
        # A server with a clock ten hours ahead: the lifetime is counted by its clock, the age by the client's.
        (at(36_000, 36_010), 1),
        ([*at(36_000, 36_010), "Age: 60"], 2),
    ],
)
def test_response_is_requested_again_when_it_is_stale(
    fields: list[str], requests: int, tmp_path: Path, capsys: Capture
) -> None:
    with responding(response(b"fresh", *fields)) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/"
        for _ in range(2):
            assert daemons("fetch", "--cache", tmp_path / "cache", url) == 0
            assert capsys.readouterr().out == "fresh"
    assert len(foreign.received) == requests


def test_the_head_of_a_response_is_printed_as_the_server_sent_it(tmp_path: Path, capsys: Capture) -> None:
    with responding(response(b"", "Date: Thu, 01 Jan 1970 00:00:00 GMT", "Expires: never", "Age: 5")) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/"
        assert daemons("fetch", "-I", "--cache", tmp_path / "cache", url) == 0
    out = capsys.readouterr().out
    assert "Date: Thu, 01 Jan 1970 00:00:00 GMT\n" in out.replace("date:", "Date:")
    assert "Expires: never\n" in out.replace("expires:", "Expires:")


def test_cache_key_excludes_fragment_and_credentials(tmp_path: Path, capsys: Capture) -> None:
    with responding(response(b"fresh", "Cache-Control: max-age=1000")) as foreign:
        for fragment in ("#one", "#two", ""):
            url = f"http://127.0.0.1:{foreign.port}/x{fragment}"
            assert daemons("fetch", "--cache", tmp_path / "cache", url) == 0
    assert len(foreign.received) == 1
    assert capsys.readouterr().err.count("from the cache\n") == 2


def test_content_length_with_leading_zeros_is_accepted_by_the_cache(tmp_path: Path, capsys: Capture) -> None:
    answer = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\nContent-Length: 005\r\n\r\nhello"
    with responding(answer) as foreign:
        for expected in ("", "from the cache\n"):
            assert daemons("fetch", "--cache", tmp_path / "c", f"http://127.0.0.1:{foreign.port}/") == 0
            assert capsys.readouterr() == ("hello", expected)


def cookie_of(request: bytes) -> bytes:
    return next((line for line in request.split(b"\r\n") if line.startswith(b"Cookie: ")), b"")


def test_cookies_of_a_host_without_a_dot_are_not_sent_to_others(tmp_path: Path) -> None:
    jar = tmp_path / "jar"
    words = ("fetch", "--jar", jar, "--proxy")
    with responding(response(b"", "Set-Cookie: a=1; Max-Age=1000", "Set-Cookie: b=1; Domain=.local; ;bare")) as proxy:
        for host in ("web", "web", "web.local", "other"):
            assert daemons(*words, f"http://127.0.0.1:{proxy.port}", f"http://{host}/") == 0
            assert jar.read_text().count(f"{host}\tFALSE\t/\tFALSE\t") == 1, host
            lines = jar.read_text().splitlines(keepends=True)
            jar.write_text("".join(line for line in lines if not line.startswith(("web.local", "other"))))
        assert [cookie_of(request) for request in proxy.received] == [b"", b"Cookie: a=1", b"", b""]


@pytest.mark.parametrize("host", ["web", "localhost", "[::1]", "[::ffff:127.0.0.1]", "web.example"])
def test_a_jar_names_hosts_as_curl_does(host: str, tmp_path: Path) -> None:
    jar = tmp_path / "jar"
    jar.write_text(f"{host.strip('[]')}\tFALSE\t/\tFALSE\t0\tc\t1\n")
    with responding(response(b"")) as proxy:
        assert daemons("fetch", "--jar", jar, "--proxy", f"http://127.0.0.1:{proxy.port}", f"http://{host}/") == 0
        assert cookie_of(proxy.received[0]) == b"Cookie: c=1"
    assert f"\n{host.strip('[]')}\tFALSE\t/\tFALSE\t0\tc\t1\n" in jar.read_text()


def test_number_of_cookies_per_domain_is_limited(tmp_path: Path) -> None:
    jar = tmp_path / "jar"
    for number in range(8):
        fields = [f"Set-Cookie: n{number}x{each}=1; Max-Age=1000" for each in range(60)]
        with responding(response(b"", *fields, f"Set-Cookie: long={'x' * 9000}; Max-Age=1000")) as foreign:
            assert daemons("fetch", "--jar", jar, f"http://127.0.0.1:{foreign.port}/") == 0
    kept = [line.split("\t")[5] for line in jar.read_text().splitlines() if "\t" in line]
    assert len(kept) == 150
    assert {name.partition("x")[0] for name in kept} == {"n5", "n6", "n7"}  # the newest
