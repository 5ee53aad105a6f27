"""Character encodings that a response or a page declares."""

from __future__ import annotations

import codecs
import encodings
import pkgutil
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.clients.web import charset
from daemons.clients.web.pages import Page
from tests.clients.web.responses import Capture, responding, response
from tests.clients.web.site import Site, daemons, serving

TEXT = "Zoot: ça va, König Löwenherz"

#: Every name of a codec that this Python has.
NAMES = sorted({module.name for module in pkgutil.iter_modules(encodings.__path__)} | set(encodings.aliases.aliases))


@pytest.mark.parametrize("name", ["zlib", "zip", "bz2", "hex", "base64", "rot13", "uu", "quopri", "idna", "punycode"])
@pytest.mark.parametrize("word", ["links", "scrape"])
def test_a_codec_that_is_no_charset_is_not_used(name: str, word: str, capsys: Capture) -> None:
    page = f"<title>x</title><dl><dt>knight<dd>{TEXT}</dl><a href='#top'>t</a>".encode()
    for field in (f"Content-Type: text/html; charset={name}", f'Content-Type: text/html; charset="{name}"'):
        answer = response(page, field)
        robots = [response(b"", status="404 Not Found")] if word == "scrape" else []
        with responding(*robots, answer) as foreign:
            assert daemons(word, f"http://127.0.0.1:{foreign.port}/") == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert out == (f"knight: {TEXT}\n" if word == "scrape" else "1 links: 0 dead, 0 moved\n")


@given(name=st.one_of(st.sampled_from(NAMES), st.text(max_size=80)), data=st.binary(max_size=300))
def test_any_declaration_decodes_any_bytes(name: str, data: bytes) -> None:
    assert isinstance(charset.decode(data, name), str)
    codec = charset.codec_of(name)
    if codec is not None:
        codecs.getincrementaldecoder(codec)("backslashreplace").decode(data, final=True)
    for meta in (f'<meta charset="{name}">', f'<?xml version="1.0" encoding="{name}"?>'):
        page = Page("http://x/", meta.encode("utf-8", "replace") + data)
        page.links()
        list(page.pairs())


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-8"),
        (b"", "windows-1252"),
    ],
)
@pytest.mark.parametrize("declared", [None, "iso-8859-5", "zlib", "no-such-charset"])
def test_byte_order_mark_takes_precedence_over_a_declaration(mark: bytes, codec: str, declared: str | None) -> None:
    page = Page("http://x/", mark + f"<p>{TEXT}</p>".encode(codec), charset.codec_of(declared))
    if mark or declared != "iso-8859-5":
        assert page.selected("p") == [TEXT]
        assert "\ufeff" not in page.selected("body")[0]
    else:
        assert page.selected("p") == [TEXT.encode(codec).decode("iso-8859-5")]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-8"])
def test_robots_txt_with_a_byte_order_mark_is_obeyed(codec: str, capsys: Capture) -> None:
    robots = "User-agent: *\nDisallow: /\n".encode(codec)
    with serving(Site, robots=robots) as (url, received):
        assert daemons("scrape", url + "/weather", "--delay", "0") == 1
    assert capsys.readouterr().err == f"daemons scrape: {url}/weather: robots.txt disallows it\n"
    assert [each.path for each in received] == ["/robots.txt"]


def test_a_cookie_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    jar = tmp_path / "jar"
    jar.write_bytes(codecs.BOM_UTF8 + b"127.0.0.1\tFALSE\t/\tFALSE\t0\tquest\tgrail\n")
    with responding(response(b"")) as foreign:
        assert daemons("fetch", "--jar", jar, f"http://127.0.0.1:{foreign.port}/") == 0
    assert b"\r\nCookie: quest=grail\r\n" in foreign.received[0]


def test_content_type_that_is_expensive_to_parse_is_ignored() -> None:
    named = "text/html; charset=iso-8859-5"
    for more, expected in (("; a=b" * 100, "iso8859-5"), ('; "' + ";" * 50_000, None)):
        assert charset.declared_by(httpx2.Response(200, headers={"Content-Type": named + more})) == expected
