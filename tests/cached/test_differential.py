"""The same commands to memcached and to the cache: the replies are the same, byte for byte."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest

from tests.cached.comparing import comparable
from tests.cached.memcached import Memcached
from tests.cached.random_commands import PLACEHOLDER, RandomCommands
from tests.cached.seam import Seam

Ask = Callable[[bytes], bytes]

#: Random commands of a seed.
COMMANDS = 3000


def with_versions(text: bytes, ask: Ask) -> bytes:
    """Replace placeholders by the numbers of the items' versions, or of a missing item by one greater than all."""

    def version(match: re.Match[bytes]) -> bytes:
        found = re.search(rb"cas=(\d+)", ask(b"me %b\r\n" % match[1]))
        return b"%d" % ((int(found[1]) if found else 2**62) + {b"": 0, b"+": 1, b"-": -1}[match[2]])

    return PLACEHOLDER.sub(version, text)


#: Seeds of the random commands; CACHED_SEEDS=200 or CACHED_SEEDS=17-17 in the environment compares others.
SEEDS = os.environ.get("CACHED_SEEDS", "4")


def seeds() -> range:
    first, _, last = SEEDS.rpartition("-")
    return range(int(first or 1), int(last) + 1)


@pytest.mark.parametrize("seed", seeds())
def test_random_commands_have_the_replies_of_memcached(seed: int, memcached: Memcached, ask: Ask) -> None:
    asks = (memcached.ask, ask)
    commands = RandomCommands(seed)
    history: list[bytes] = []
    for count in range(COMMANDS):
        if count % 60 == 0:
            memcached.ask(b"flush_all\r\n")
            ask(b"flush_all\r\n")
            history.clear()
        text = commands.command()
        history.append(text)
        theirs, ours = (comparable(one(with_versions(text, one))) for one in asks)
        assert ours == theirs, f"CACHED_SEEDS={seed}-{seed}, commands since the last flush_all: {history}"


#: Commands with replies compared one after the other.
SCRIPTS = {
    "a number wraps at 2**64": b"set n 0 0 20|18446744073709551615;incr n 2;get n",
    "decrementing stops at 0 and keeps the length": b"set n 0 0 3|100;decr n 1;get n;decr n 500;get n",
    "a number beyond 64 bits": b"set n 0 0 20|18446744073709551616;incr n 1",
    "a delta beyond 64 bits": b"set n 0 0 1|1;incr n 18446744073709551616;decr n -1;incr n x",
    "flag h before and after a read": b"set a 0 0 1|1;mg a h;mg a h;mg a u h",
    "the longest key": b"set %b 0 0 1|1;get %b" % ((b"k" * 250,) * 2),
    "a winner recaches a missing item": b"mg a N30 v t;mg a N30 v t;ms a 2 T0|hi;mg a v",
    "a stale item": b"set a 0 0 1|1;md a I T30;mg a c v t;mg a v;ms a 1 C1 I|2;mg a v",
    "a value that is too long": b"set a 0 0 1|1;add b 0 0 2000000|%b;set a 0 0 2000000|%b;get a b"
    % ((b"x" * 2000000,) * 2),
    "ms with a value that is too long": b"set a 0 0 1|1;ms a 2000000 q|%b;get a" % (b"x" * 2000000),
    "an appended value that is too long": b"set a 0 0 600000|%b;append a 0 0 600000|%b" % ((b"x" * 600000,) * 2),
    "touch and gat": b"set a 0 0 1|1;touch a 100;mg a t;gat 50 a;mg a t;gats -1 a b;get a;touch a 0",
    "flush_all in future": b"flush_all 100;set a 0 0 1|1;get a;flush_all 0;get a",
    "arithmetic with an expiration time": b"set n 0 0 1|1;ma n T100 t v;mg n t;ma n N5 T200 t;mg n t v",
    "a key in base64 that was created without being stored": b"mg AAEC b N100 k;mg AAEC b k;me AAEC b",
    "flags of 32 bits": b"set a 4294967295 0 1|1;get a",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_script_has_the_replies_of_memcached(script: bytes, memcached: Memcached, ask: Ask) -> None:
    memcached.ask(b"flush_all\r\n")
    for line in script.split(b";"):
        text = line.replace(b"|", b"\r\n") + b"\r\n"
        theirs, ours = comparable(memcached.ask(text)), comparable(ask(text))
        assert ours == theirs, text[:60]


def test_many_connections_share_the_items() -> None:
    first = Seam()
    second = Seam(first.service)
    assert first.ask(b"set a 0 0 1\r\n1\r\n") == b"STORED\r\n"
    assert second.ask(b"get a\r\n") == b"VALUE a 0 1\r\n1\r\nEND\r\n"
