"""``daemons scrape`` and robots.txt: disallowed pages, limits and delays."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from tests.clients.web.conftest import Running
from tests.clients.web.responses import Capture, responding, response
from tests.clients.web.site import Site, daemons, serving

#: Without a delay.
AT_ONCE = ("--delay", "0")


def test_disallowed_pages_are_never_requested(site: Running, capsys: Capture) -> None:
    for path in ("private/secret", "x/y.php", "to?u=/private"):
        assert daemons("scrape", *AT_ONCE, f"{site.url}/{path}") == 1
        where = urljoin(site.url, "/private" if "to?" in path else path)
        assert capsys.readouterr().err.endswith(f"daemons scrape: {where}: robots.txt disallows it\n")
    assert daemons("scrape", *AT_ONCE, "--recursive", f"{site.url}/other") == 0
    assert capsys.readouterr().err.splitlines() == [
        f"{site.url}/private/secret: robots.txt disallows it",
        f"redirected, 301: {site.url}/good",
    ]
    assert not any("private/" in path or path.endswith(".php") for path in site.requests)


@pytest.mark.parametrize(
    ("status", "code", "allowed"), [(404, 0, True), (403, 0, True), (500, 1, False), (429, 1, False)]
)
def test_status_of_robots_txt_allows_or_forbids_all_pages(
    status: int, code: int, allowed: bool, capsys: Capture
) -> None:
    class Broken(Site):
        def page_robots(self, _: bytes) -> None:
            self.respond(status, b"User-agent: *\nDisallow: /")

    with serving(Broken) as (url, received):
        assert daemons("scrape", *AT_ONCE, f"{url}/weather") == (0 if allowed else 1)
    assert ("/weather" in {each.path for each in received}) is allowed
    assert ("all pages are disallowed\n" in capsys.readouterr().err) is not allowed


@pytest.mark.parametrize("agent", ["User-agent:{}", "user agent {}", "Useragent: {}*"])
def test_robots_txt_with_too_many_rules_is_refused(agent: str, capsys: Capture) -> None:
    agents = "".join(agent.format(number) + "\nSitemap: x\n" for number in range(8000))
    answer = response((agents + "Disallow: /x\n" * 8000).encode())
    with responding(answer, b"") as foreign:
        assert daemons("scrape", f"http://127.0.0.1:{foreign.port}/") == 1
    assert "more than 1000000 rules for all user agents" in capsys.readouterr().err
    assert len(foreign.received) == 1


def test_robots_txt_of_many_groups_is_read(capsys: Capture) -> None:
    groups = "".join(f"User-agent: bot{number}\nDisallow: /\n\n" for number in range(10_000))
    answer = response(f"{groups}User-agent: camelot-daemons\nDisallow: /private\n".encode())
    with responding(answer, response(b"<dl><dt>knight<dd>Robin</dl>", "Content-Type: text/html")) as foreign:
        assert daemons("scrape", f"http://127.0.0.1:{foreign.port}/", *AT_ONCE) == 0
    assert capsys.readouterr().out == "knight: Robin\n"


def test_requests_are_delayed(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request is immediate, each other follows after the delay, or a longer Crawl-delay of robots.txt."""
    pauses: list[float] = []
    monkeypatch.setattr("daemons.clients.web.robots.time.sleep", pauses.append)
    with serving(robots=b"User-agent: camelot-daemons\nCrawl-delay: 30\n") as (url, _):
        assert daemons("scrape", "--recursive", "--pages", "3", "-t", "20", f"{url}/other") == 0
    assert pauses[0] == 0.0
    assert 20 < pauses[1] <= 30
    assert 40 < pauses[2] <= 60
    assert capsys.readouterr().err.startswith(f"{url}: robots.txt requires 30 s between requests\n")


@pytest.mark.parametrize(("delay", "pause"), [("99999", 3600), ("inf", 0), ("nan", 0), ("-5", 0)])
def test_extreme_crawl_delay_is_clamped(delay: str, pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("daemons.clients.web.robots.time.sleep", pauses.append)
    with serving(robots=f"User-agent: *\nCrawl-delay: {delay}\n".encode()) as (url, _):
        daemons("scrape", *AT_ONCE, f"{url}/moved")
    assert len(pauses) == 2
    assert pause - 100 < pauses[1] <= pause
