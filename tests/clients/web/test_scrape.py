"""``daemons scrape``: values, forms, whole sites and robots.txt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from daemons.clients.web import location
from tests.clients.web.conftest import Running
from tests.clients.web.responses import Capture
from tests.clients.web.site import Site, daemons, serving

#: Without a delay.
AT_ONCE = ("--delay", "0")


VALUES = "Condition: Clear\nTemperature: 98 \u00b0F\\x1b\nHumidity: 9 %\n"

#: The URLs that rscrape1 of the book requests.
RSCRAPE1 = """
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen
class Anchors(HTMLParser):
    def handle_starttag(self, tag, attrs):
        if tag == "a" and dict(attrs).get("href"):
            found.append(urljoin(url, dict(attrs)["href"]))
start = sys.argv[1]
further_work, already_seen = {start}, {start}
while further_work:
    url = further_work.pop()
    print("GET", url)
    found = []
    with urlopen(url) as response:
        if response.headers.get_content_type() == "text/html":
            Anchors().feed(response.read().decode())
    for link in set(found) - already_seen:
        already_seen.add(link)
        if urlsplit(link).netloc == urlsplit(start).netloc:
            further_work.add(link)
"""


def test_form_is_submitted_and_values_are_printed(site: Running, capsys: Capture) -> None:
    """A POST that is redirected to a page with names and values."""
    assert daemons("scrape", *AT_ONCE, "--form", "inputstring=Phoenix, AZ", f"{site.url}/form") == 0
    assert capsys.readouterr() == (VALUES, f"redirected, 303: {site.url}/weather\n")
    assert site.requests == ["GET /robots.txt", "GET /form", "POST /zipcity.php", "GET /weather"]
    request = site.received[2]
    assert request.fields["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.body == b"token=gr%C3%BCn&inputstring=Phoenix%2C+AZ&d=on&s=2&t=text&go=Go"
    assert request.fields["User-Agent"].endswith(" (scrape)")


def test_selected_text_and_pairs_are_printed(site: Running, capsys: Capture) -> None:
    assert daemons("scrape", *AT_ONCE, f"{site.url}/weather") == 0
    assert capsys.readouterr().out == VALUES
    assert daemons("scrape", *AT_ONCE, "--select", "td, .h", f"{site.url}/weather") == 0
    assert capsys.readouterr().out == "Clear\nTemperature\n98 \u00b0F\\x1b\none cell\n9 %\n"
    for words, expected in (
        (("--select", "td["), "--select 'td[': Malformed attribute selector at position 2"),
        (("--select", "q"), f"{site.url}/weather: no element matches 'q'"),
        (("--form", "a=b"), f"{site.url}/weather: no form has 'a'; there are: none"),
    ):
        assert daemons("scrape", *AT_ONCE, *words, f"{site.url}/weather") == 1
        assert capsys.readouterr() == ("", f"daemons scrape: {expected}\n")
    assert daemons("scrape", *AT_ONCE, "--form", "inputstring=x", "--form", "y=", f"{site.url}/form") == 1
    there = "'c', 'd', 'go', 'inputstring', 'other', 's', 'stop', 't', 'token'"
    expected = f"daemons scrape: {site.url}/form: no form has 'inputstring', 'y'; there are: {there}\n"
    assert capsys.readouterr().err == expected


def test_get_and_multipart_forms_are_submitted(capsys: Capture) -> None:
    class Forms(Site):
        def page_form(self, _: bytes) -> None:
            self.respond(
                200,
                b"<form action='/echo?old=1#x' method='get'><input name=q value=no><input type=submit></form>"
                b"<form method=POST action=/echo enctype=multipart/form-data><input name=m></form>"
                b"<form enctype=text/plain><input name=p></form><form><input name=self type=radio value=1></form>",
            )

    with serving(Forms) as (url, received):
        for words in (("q=a b",), ("m=\u00fc\r\nx",), ("p=1",), ("self=1",)):
            daemons("scrape", *AT_ONCE, "--form", *words, f"{url}/form")
    requests = [each for each in received if each.path not in ("/form", "/robots.txt")]
    assert [(each.method, each.path) for each in requests] == [
        ("GET", "/echo?q=a+b"),
        ("POST", "/echo"),
        ("GET", "/form?self=1"),
    ]
    boundary = requests[1].fields["Content-Type"].removeprefix("multipart/form-data; boundary=").encode()
    assert requests[1].body == (
        b'--%b\r\nContent-Disposition: form-data; name="m"\r\n\r\n\xc3\xbc\r\nx\r\n--%b--\r\n' % (boundary, boundary)
    )
    assert capsys.readouterr().err.count("which is ambiguous and not supported") == 1


def test_recursive_option_reads_the_same_pages_as_rscrape1(capsys: Capture) -> None:
    class Tiny(Site):
        robots = b""

        def page_(self, _: bytes) -> None:
            self.respond(200, b"<a href='other'>o</a><a href='/'>home</a><a href='http://far/'>far</a><a href='?a=1'>")

    with serving(Tiny) as (url, received):
        theirs = subprocess.run([sys.executable, "-c", RSCRAPE1, f"{url}/"], capture_output=True, text=True, check=True)
        received.clear()
        assert daemons("scrape", *AT_ONCE, "--recursive", f"{url}/") == 0
        out = capsys.readouterr().out
        assert sorted(out.splitlines()) == sorted(theirs.stdout.splitlines())
        assert out.startswith(f"GET {url}/\n")
        assert daemons("scrape", *AT_ONCE, "--recursive", "--pages", "1", f"{url}/") == 0
        assert capsys.readouterr() == (f"GET {url}/\n", "stopped after 1 pages; --pages N raises the limit\n")


def test_cached_response_needs_no_request(site: Running, tmp_path: Path) -> None:
    for _ in range(2):
        daemons("scrape", *AT_ONCE, "--cache", tmp_path / "c", "--select", "html", f"{site.url}/fresh")
    assert site.requests.count("GET /fresh") == 1


def test_spelling_of_the_host_does_not_matter(capsys: Capture) -> None:
    class Spelled(Site):
        def page_(self, _: bytes) -> None:
            self.respond(200, f"<a href='http://{self.headers['Host'].upper()}/other'>o</a>".encode())

        def page_other(self, _: bytes) -> None:
            self.respond(200, b"<a href='/'>back</a>")

    with serving(Spelled) as (url, _):
        lower = url.replace("127.0.0.1", "localhost")
        assert daemons("scrape", "--recursive", "--delay", "0", f"{url.replace('127.0.0.1', 'LOCALHOST')}/") == 0
    assert capsys.readouterr() == (f"GET {lower}/\nGET {lower}/other\n", "")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://H:80/x", "h"),
        ("https://h:443/x", "h"),
        ("http://h:443/x", "h:443"),
        ("http://u:p@h:/x", "h"),
        ("http://[::1]:80/", "[::1]"),
        ("http://[FE80::1%25eth0]/", "[fe80::1%25eth0]"),
    ],
)
def test_authority_is_normalized(url: str, named: str) -> None:
    assert location.authority(url) == named


def test_page_with_overlong_links_does_not_stop_the_crawl(capsys: Capture) -> None:
    class Long(Site):
        def page_(self, _: bytes) -> None:
            self.respond(200, b"<a href='/search'>s</a><a href='/other'>o</a>")

        def page_search(self, _: bytes) -> None:
            self.respond(200, b"<base href='/%b/'>" % (b"a" * 500_000) + b"<a href='b'>" * 100)

    with serving(Long) as (url, _):
        assert daemons("scrape", "--recursive", "--delay", "0", "--pages", "3", f"{url}/") == 1
    out, err = capsys.readouterr()
    assert f"GET {url}/other\n" in out
    assert f"{url}/search: the links have more than " in err
