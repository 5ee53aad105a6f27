"""``daemons squares``: a slow function behind a cache, ten times; the more values are in the cache, the faster."""

from __future__ import annotations

import argparse
import random
import time

from daemons.caching import Cache
from daemons.clients import tools
from daemons.clients.caching.arguments import add_servers, servers_of

#: Calls in a run; numbers that are squared; seconds that squaring one takes.
REQUESTS, NUMBERS, SLOWNESS = 2000, 5000, 0.001

RUNS = 10

#: Seconds until a square is computed again.
TTL = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_servers(parser)
    parser.epilog = (
        f"Each run asks for {REQUESTS} squares of random numbers below {NUMBERS}, and prints its duration. A square "
        "that is not in the cache takes a millisecond. Without a cache, the runs are slower, but succeed."
    )


def run(options: argparse.Namespace) -> int:
    cache = Cache(servers_of(options))
    try:
        print("Ten successive runs:")
        for _ in range(RUNS):
            start = time.perf_counter()
            for _ in range(REQUESTS):
                square(cache, random.randrange(NUMBERS))
            print(f" {time.perf_counter() - start:.2f}s", end="", flush=True)
        print()
    finally:
        cache.close()
    return tools.DONE


def square(cache: Cache, number: int) -> int:
    """Return the square of a number, from the cache if it is there."""
    key = f"sq:{number}"
    value = cache.get(key)
    if not isinstance(value, int):
        time.sleep(SLOWNESS)  # as if it were hard to compute
        value = number * number
        cache.set(key, value, TTL)
    return value
