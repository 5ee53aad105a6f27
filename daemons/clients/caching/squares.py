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
    parser.add_argument(
        "--requests",
        metavar="N",
        type=_requests,
        default=REQUESTS,
        help=f"numbers to square in each run (default {REQUESTS})",
    )
    parser.epilog = (
        f"Each run asks for squares of random numbers below {NUMBERS}, and prints its duration. A square that is not "
        "in the cache takes a millisecond. Without a cache, the runs are slower, but succeed. "
        "Exit codes: 0 done, 2 wrong command line."
    )


def _requests(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 8 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1 to 9999999 is expected")
    return int(text)


def run(options: argparse.Namespace) -> int:
    cache = Cache(servers_of(options))
    try:
        print("Ten successive runs:")
        for _ in range(RUNS):
            start = time.perf_counter()
            for _ in range(options.requests):
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
