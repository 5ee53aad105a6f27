"""Values in a cache: which are stored, which are computed, and how often."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client

from daemons.cached import Cached
from daemons.caching import Cache, cached, hash_client
from daemons.serving.pump import Pump
from tests.caching.conftest import address_of
from tests.serving.running import Within


@pytest.mark.parametrize("value", [None, 0, "", False, [], [[1, "ü"]], {"a": None}, 1.5, "x" * 100_000])
def test_any_json_value_is_stored_and_found(value: Any, cache: Cache) -> None:
    missing = object()
    assert cache.get("a", missing) is missing
    assert cache.set("a", value, ttl=60)
    assert cache.get("a", missing) == value
    assert (cache.hits, cache.misses, cache.failures) == (1, 1, 0)


def test_a_value_is_removed(cache: Cache) -> None:
    cache.set("a", 1, ttl=60)
    assert [cache.delete("a"), cache.delete("a")] == [True, False]
    assert cache.get("a") is None


def test_a_value_is_changed_unless_it_is_missing(cache: Cache, server: Within) -> None:
    assert not cache.update("a", lambda value: value + 1, ttl=60)
    cache.set("a", 1, ttl=60)
    assert cache.update("a", lambda value: value + 1, ttl=60)

    def change(value: int) -> int:
        if value == 2:  # another client is quicker
            cache.set("a", 10, ttl=60)
        return value + 1

    assert cache.update("a", change, ttl=60)
    assert cache.get("a") == 11


def test_expiration_times_beyond_30_days_are_absolute(cache: Cache, server: Within) -> None:
    cache.set("a", 1, ttl=60 * 60 * 24 * 365)
    assert cache.get("a") == 1
    with pytest.raises(ValueError, match="a second or more"):
        cache.set("a", 1, ttl=0.5)


@pytest.mark.parametrize("key", ["a b", "a\r\nflush_all", "a\0b", "k" * 251, "ä"])
def test_an_invalid_key_is_a_value_error_and_never_sent(key: str, cache: Cache) -> None:
    cache.set("a", 1, ttl=60)
    for call in (
        lambda: cache.get(key),
        lambda: cache.set(key, 1, ttl=60),
        lambda: cache.delete(key),
        lambda: cache.get_or_compute(key, 60, lambda: 1),
    ):
        with pytest.raises(ValueError, match="not a key"):
            call()
    assert cache.get("a") == 1


def test_a_value_that_is_too_long_is_computed_each_time(cache: Cache) -> None:
    calls = []

    def compute() -> str:
        calls.append(1)
        return "x" * 2_000_000

    assert [len(cache.get_or_compute("a", 60, compute)) for _ in range(2)] == [2_000_000] * 2
    assert len(calls) == 2
    assert cache.failures == 0


def test_the_result_of_a_function_is_kept(cache: Cache) -> None:
    calls: list[tuple[Any, ...]] = []

    @cached("square", ttl=60, cache=cache)
    def square(number: int, *, unit: str = "m") -> Any:
        """Square a number."""
        calls.append((number, unit))
        return (number * number, unit) if number else None

    assert [square(3), square(3), square(3, unit="km")] == [[9, "m"], [9, "m"], [9, "km"]]
    assert [square(0), square(0)] == [None, None]
    assert calls == [(3, "m"), (3, "km"), (0, "m")]
    assert square.invalidate(3)
    square(3)
    assert calls[3:] == [(3, "m")]
    assert (square.__doc__, square.key(3)) == ("Square a number.", "square:3")
    assert (cache.hits, cache.misses) == (2, 4)


def test_an_exception_of_the_function_is_raised_and_not_kept(cache: Cache) -> None:
    outcomes: list[Any] = [RuntimeError("once"), 7]

    @cached("fails", ttl=60, cache=cache)
    def fails() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with pytest.raises(RuntimeError, match="once"):
        fails()
    assert fails() == 7


def test_a_result_that_json_cannot_express_is_a_type_error(cache: Cache) -> None:
    with pytest.raises(TypeError):
        cache.get_or_compute("a", 60, object)


def test_two_hundred_callers_of_one_missing_key_compute_it_at_most_twice(
    server: Within, client: Callable[..., Cache]
) -> None:
    """In ten clients, as in ten processes, with twenty threads each."""
    clients = [client(address_of(server)) for _ in range(10)]
    together = threading.Barrier(200)
    calls = []

    def compute() -> int:
        calls.append(1)
        time.sleep(0.05)  # so that the others come meanwhile
        return 7

    def ask(number: int) -> int:
        together.wait(60)
        value: int = clients[number % 10].get_or_compute("a", 60, compute)
        return value

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(ask, range(200))) == [7] * 200
    assert 1 <= len(calls) <= 2


def test_keys_are_distributed_to_servers_as_pymemcache_does(
    within: Callable[..., Within], client: Callable[..., Cache]
) -> None:
    servers = [address_of(within("loop", Pump.for_service(Cached()))) for _ in range(3)]
    cache, other = client(*servers), hash_client(servers)
    for number in range(60):
        cache.set(f"key:{number}", number, ttl=60)
    assert [other.get(f"key:{number}") for number in range(60)] == [b"[%d]" % number for number in range(60)]
    other.close()
    items = Counter[str]()
    for server in servers:
        connection = Client(server)
        items[server] = connection.stats()[b"curr_items"]
        connection.close()
    assert sum(items.values()) == 60
    assert min(items.values()) > 0


#: A program that reads a pickle from a cache, and reports each name that a pickle looks up.
READ = """
import sys
from daemons.caching import Cache
sys.addaudithook(lambda event, arguments: event.startswith("pickle.") and print(event))
cache = Cache([sys.argv[1]], 15)
print(cache.get("a", "missing"), cache.get_or_compute("a", 60, lambda: 7))
"""


def test_a_pickle_in_the_cache_is_never_loaded(server: Within, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    data = b"cbuiltins\nopen\n(V%b\nVw\ntR." % str(trap).encode()
    client = Client(server.address, default_noreply=False)
    assert client.set("a", data, flags=1)  # the flag of pymemcache's own pickles
    client.close()
    command = [sys.executable, "-c", READ, address_of(server)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "missing 7\n"
    assert not trap.exists()
