"""Expiration, eviction and memory of the store."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import pytest

from daemons.cached.store import LONGEST_RELATIVE, OVERHEAD, Store, reply_of


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(store: Store, key: bytes, exptime: int = 0, length: int = 1) -> None:
    store.put(key, reply_of(key, b"0", b"x" * length), store.deadline(exptime))


def test_an_item_is_gone_at_its_expiration_time(clock: Clock) -> None:
    store = Store(10_000, clock)
    put(store, b"a", 10)
    clock.now += 9.9
    assert store.fetch(b"a")
    clock.now += 0.1
    assert store.fetch(b"a") is None
    assert (store.bytes, store.expired) == (0, 1)


def test_a_time_beyond_30_days_is_absolute(clock: Clock) -> None:
    store = Store(10_000, clock)
    assert store.deadline(0) == math.inf
    assert store.deadline(LONGEST_RELATIVE) == clock.now + LONGEST_RELATIVE
    assert store.deadline(LONGEST_RELATIVE + 1) == clock.now
    assert store.deadline(-1) == clock.now
    assert store.deadline(int(time.time()) + 5000) == pytest.approx(clock.now + 5000, abs=60)


def test_the_least_recently_used_item_is_evicted(clock: Clock) -> None:
    store = Store(3 * (OVERHEAD + 100), clock)
    for key in (b"a", b"b", b"c"):
        put(store, key)
    store.fetch(b"a")
    store.peek(b"b")  # which is no use
    put(store, b"d", length=100)
    assert list(store.items) == [b"c", b"a", b"d"]
    assert (store.evictions, store.expired) == (1, 0)
    assert store.bytes == sum(OVERHEAD + len(key) + len(item.reply) for key, item in store.items.items())


def test_a_delayed_flush_takes_items_that_are_stored_before_it(clock: Clock) -> None:
    store = Store(10_000, clock)
    put(store, b"a")
    store.clear_after(10)
    put(store, b"b")
    assert store.peek(b"a")
    assert b"a" not in store.unflushed
    clock.now += 10
    assert store.peek(b"b") is None
    put(store, b"c")
    assert store.peek(b"c")
    assert store.unflushed is store.items


def test_a_new_value_replaces_the_size_of_the_old_one(clock: Clock) -> None:
    store = Store(10_000, clock)
    for length in (1, 5000, 10):
        put(store, b"a", length=length)
    assert store.bytes == OVERHEAD + 1 + len(store.items[b"a"].reply)
    with pytest.raises(MemoryError):
        put(store, b"a", length=20_000)
    assert (store.bytes, len(store.items)) == (0, 0)


#: Fill a cache of 64 MiB with values of some sizes; print the memory of the process, less that at the start.
FILL = """
import random, sys
from daemons.cached.store import Store, reply_of
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
least, *sizes = map(int, sys.argv[1:])
store = Store(64 * 1024**2)
start, stored, number = resident(), 0, 0
while stored < least:
    length = random.choice(sizes)
    key = b"%d" % number
    store.put(key, reply_of(key, b"0", b"x" * length), float("inf"))
    stored += length
    number += 1
print(resident() - start, store.bytes, store.evictions, number - len(store.items))
"""


def fill(least: int, *sizes: int) -> tuple[int, int, int, int]:
    """Return the memory of a cache in bytes, and as it is counted, and the numbers of evicted and of missing items."""
    command = [sys.executable, "-c", FILL, *map(str, (least, *sizes))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    resident, counted, evictions, missing = map(int, done.stdout.split())
    return resident, counted, evictions, missing


def test_memory_filled_ten_times_over_stays_below_twice_the_limit() -> None:
    limit = 64 * 1024**2
    resident, counted, evictions, missing = fill(10 * limit, 10, 100, 1000, 10_000, 100_000, 500_000)
    assert counted <= limit
    assert resident < 2 * limit
    assert evictions == missing > 0


def test_the_memory_of_short_values_is_counted_in_full() -> None:
    resident, counted, *_ = fill(50_000, 1)
    assert resident < 1.2 * counted
