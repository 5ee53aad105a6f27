"""Thousands of hostile responses to each web command, from a server on the loopback.

For any response: a documented exit code, lines without a traceback on standard error, no file that is not whole,
bounded memory, an end within the deadline."""

from __future__ import annotations

import os
import resource
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients.web.hostile import URLS, hostile
from tests.clients.web.site import daemons

COMMANDS: dict[str, Sequence[str]] = {
    "fetch to a file": ("fetch", "{url}/x", "-o", "target"),
    "fetch and print": ("fetch", "{url}/x", "-v", "--jar", "jar"),
    "fetch a head": ("fetch", "-I", "{url}/"),
    "fetch without redirects": ("fetch", "--no-redirects", "{url}/", "-o", "target"),
    "fetch through a cache": ("fetch", "{url}/x#fragment", "--cache", "cache", "-o", "target"),
    "fetch the rest": ("fetch", "{url}/x", "-C", "-o", "target"),
    "fetch with a form": ("fetch", "{url}/x", "-d", "a=b", "-u", "a:b"),
    "links": ("links", "{url}/"),
    "links in depth": ("links", "{url}/", "--depth", "1", "-v", "--jar", "jar"),
    "scrape": ("scrape", "{url}/", "--delay", "0"),
    "scrape a selection": ("scrape", "{url}/", "--delay", "0", "--select", "a, :is(div, td):nth-child(2n+1)"),
    "scrape a form": ("scrape", "{url}/", "--delay", "0", "--form", "q=x"),
    "scrape a site": ("scrape", "{url}/", "--delay", "0", "--recursive", "--pages", "5", "--cache", "cache"),
}


@pytest.mark.parametrize(
    "words", [("fetch",), ("links",), ("scrape", "--delay", "0"), ("url",)], ids=lambda words: words[0]
)
def test_any_url_gives_a_documented_exit_code_and_printable_lines(
    words: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for url in URLS:
        try:
            code: object = daemons(*words, url, *(() if words == ("url",) else ("-t", "2")))
        except SystemExit as ended:
            code = ended.code
        err = capsys.readouterr().err
        assert code in (0, 1, 2), (url, err)
        assert "Traceback" not in err, (url, err)
        assert "a bug" not in err, (url, err)
        assert code == 0 or err, url


#: Number of responses to each command; CAMELOT_HOSTILE overrides it.
ROUNDS = int(os.environ.get("CAMELOT_HOSTILE", "30"))


@pytest.mark.parametrize("name", COMMANDS)
def test_any_response_gives_a_documented_exit_code_and_printable_lines(
    name: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # a Crawl-delay may be an hour
    before = 0
    target = tmp_path / "target"
    for seed in range(ROUNDS):
        target.write_text("before")
        with hostile(seed) as url, warnings.catch_warnings():
            warnings.simplefilter("error")
            code = daemons(*(word.format(url=url) for word in COMMANDS[name]), "-t", "5")
        out, raw = capsysbinary.readouterr()
        err = raw.decode()
        assert code in (0, 1), (seed, err)
        assert "Traceback" not in err, (seed, err)
        assert "a bug" not in err, (seed, err)
        assert code == 0 or err or out, seed
        if "-v" not in COMMANDS[name]:  # prints everything that was received
            assert all(len(line) < 8000 for line in err.splitlines()), (seed, err)
        assert all(character.isprintable() or character == "\n" for character in err), (seed, err)
        kept = {path.name for path in tmp_path.iterdir()}
        assert kept <= {"target", "jar", "cache", "target.part", "target.part.of"}, (seed, kept)
        if code:
            assert target.read_text() == "before", seed
        if seed == 20:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not before or after - before < 64 * 1024, (before, after)  # KiB
