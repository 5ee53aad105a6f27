"""``daemons cache``, ``squares`` and ``hashing``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemons.cached import Cached
from daemons.cli.command import main
from daemons.clients.caching import hashing, squares
from daemons.serving.pump import Pump
from tests.serving.conftest import within as within
from tests.serving.running import Within


@pytest.fixture
def server(within: Callable[..., Within]) -> list[str]:
    """The option for a running cache."""
    port = within("loop", Pump.for_service(Cached())).address[1]
    return ["--server", f"127.0.0.1:{port}"]


Result = tuple[int, str, str]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command; return its exit code, its output and its errors."""

    def run(*words: str) -> Result:
        try:
            code: Any = main([*words])
        except SystemExit as end:
            code = end.code
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_a_value_is_set_read_and_removed(server: list[str], run: Callable[..., Result]) -> None:
    assert run("cache", "set", "greeting", "hellö", *server) == (0, "", "")
    assert run("cache", "get", "greeting", *server) == (0, "hellö", "")
    assert run("cache", "delete", "greeting", *server) == (0, "", "")
    missing = (1, "", "daemons cache: greeting: no such key\n")
    assert run("cache", "get", "greeting", *server) == missing
    assert run("cache", "delete", "greeting", *server) == missing


def test_a_value_is_set_with_an_expiration_time(server: list[str], run: Callable[..., Result]) -> None:
    assert run("cache", "set", "a", "1", "--ttl", "3000000000"[:9], *server)[0] == 0
    assert run("cache", "get", "a", *server)[0] == 1  # a number so large is a time in the past
    assert run("cache", "set", "a", "1", "--ttl", "60", *server)[0] == 0
    assert run("cache", "get", "a", *server)[:2] == (0, "1")


def test_the_statistics_of_each_server_are_printed(server: list[str], run: Callable[..., Result]) -> None:
    run("cache", "set", "a", "1", *server)
    code, out, err = run("cache", "stats", *server, "--server", "127.0.0.1:1")
    assert code == 1
    assert re.search(rf"^{re.escape(server[1])}\n", out)
    assert re.search(r"^  curr_items +1$", out, re.MULTILINE)
    assert err == "daemons cache: 127.0.0.1:1: connection refused\n"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["get", "a b"], 1, "a b: not a key; 1 to 250 bytes without spaces are expected"),
        (["set", "k" * 251, "x"], 1, "not a key"),
        (["get", "a", "--server", "127.0.0.1:1"], 1, "127.0.0.1:1: connection refused"),
        (["get"], 2, "write get KEY, set KEY VALUE, delete KEY or stats"),
        (["set", "a"], 2, "write get KEY"),
        (["stats", "a"], 2, "write get KEY"),
        (["get", "a", "--ttl", "5"], 2, "only set has --ttl"),
        (["set", "a", "1", "--ttl", "x"], 2, "whole seconds"),
        (["flush"], 2, "invalid choice"),
    ],
)
def test_a_wrong_command_is_one_error(
    words: list[str], code: int, error: str, server: list[str], run: Callable[..., Result]
) -> None:
    ended, out, err = run("cache", *([*server] if "--server" not in words else []), *words)
    assert (ended, out) == (code, "")
    assert error in err


def test_a_value_that_is_too_large_is_refused_by_the_server(server: list[str], run: Callable[..., Result]) -> None:
    code, _, err = run("cache", "set", "a", "x" * 1_100_000, *server)
    assert (code, err) == (1, f"daemons cache: {server[1]}: object too large for cache\n")


def test_squares_prints_ten_times(
    server: list[str], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(squares, "NUMBERS", 5)
    code, out, err = run("squares", "--requests", "20", *server)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"Ten successive runs:\n( \d+\.\d\ds){10}\n", out)
    figures = run("cache", "stats", *server)[1]
    # Each number is computed and stored once.
    assert re.search(r"^  cmd_get +200$", figures, re.MULTILINE)
    assert re.search(r"^  get_misses +[1-5]$", figures, re.MULTILINE)


def test_squares_goes_on_without_a_cache(run: Callable[..., Result]) -> None:
    code, out, err = run("squares", "--requests", "2", "--server", "127.0.0.1:1")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"Ten successive runs:\n( \d+\.\d\ds){10}\n", out)


def test_hashing_compares_four_ways(run: Callable[..., Result], tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("".join(f"word{number}\n" for number in range(4000)) + "apple\nyellow\n")
    code, out, err = run("hashing", str(words))
    assert (code, err) == (0, "")
    assert re.findall(r"^\w+", out, re.MULTILINE) == ["alpha", "hash", "md5", "rendezvous", "moved"]
    assert "differs in each process" in out
    shares = re.findall(r"   server\d \d+ (\d\.\d\d)", out)
    assert len(shares) == 16
    assert all(0.2 < float(share) < 0.3 for share in shares[8:])
    match = re.fullmatch(r"moved when a fifth server comes: modulo (\d+) %, rendezvous (\d+) %", out.splitlines()[-1])
    assert match
    assert 75 < int(match[1]) < 85
    assert 15 < int(match[2]) < 25


def test_a_word_that_moves_moves_to_the_new_server_only() -> None:
    more = [*hashing.SERVERS, "server4"]
    for number in range(500):
        word = f"word{number}"
        shard = hashing.rendezvous_shard(word, more)
        assert shard in (hashing.rendezvous_shard(word, hashing.SERVERS), "server4")


def test_hashing_without_words_is_one_error(run: Callable[..., Result], tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert run("hashing", str(missing)) == (1, "", f"daemons hashing: {missing}: no such file or directory\n")
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert run("hashing", str(empty))[2] == f"daemons hashing: {empty}: contains no words\n"
