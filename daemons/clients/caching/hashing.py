"""``daemons hashing``: four ways to distribute keys to servers, and what happens when a server is added."""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from daemons.clients import tools
from daemons.printable import escape

#: One word on each line, from the package wamerican, or another word list.
WORDS = "/usr/share/dict/words"

#: Most bytes of a file that is read.
LONGEST = 64 * 1024**2

SERVERS = [f"server{number}" for number in range(4)]

Shard = Callable[[str, list[str]], str]


def alpha_shard(word: str, servers: list[str]) -> str:
    """Choose a server by the first letter: few words begin with some letters."""
    return servers[0 if word[0] < "g" else 1 if word[0] < "n" else 2 if word[0] < "t" else 3]


def hash_shard(word: str, servers: list[str]) -> str:
    """Choose a server by hash(), which has other results in each process, so that no two clients agree."""
    return servers[hash(word) % len(servers)]


def md5_shard(word: str, servers: list[str]) -> str:
    """Choose a server by MD5, modulo the number of servers."""
    return servers[int.from_bytes(hashlib.md5(word.encode(), usedforsecurity=False).digest(), "big") % len(servers)]


def rendezvous_shard(word: str, servers: list[str]) -> str:
    """Choose the server by the highest hash of its name and the word together: a new server takes only its share."""
    data = word.encode()
    return max(servers, key=lambda server: hashlib.md5(server.encode() + b"-" + data, usedforsecurity=False).digest())


SHARDS: dict[str, Shard] = {
    "alpha": alpha_shard,
    "hash (differs in each process)": hash_shard,
    "md5": md5_shard,
    "rendezvous": rendezvous_shard,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default=WORDS, help=f"a file with a key on each line (default {WORDS})"
    )
    parser.epilog = "Exit codes: 0 done, 1 the file cannot be read, 2 wrong command line."


def run(options: argparse.Namespace) -> int:
    words = _words(options.file)
    for name, shard in SHARDS.items():
        counts = Counter(shard(word, SERVERS) for word in words)
        print(name)
        for server in SERVERS:
            print(f"   {server} {counts[server]} {counts[server] / len(words):.2f}")
        print()
    modulo, rendezvous = (moved(words, shard) for shard in (md5_shard, rendezvous_shard))
    print(f"moved when a fifth server comes: modulo {modulo:.0%}, rendezvous {rendezvous:.0%}".replace("%", " %"))
    return tools.DONE


def moved(words: list[str], shard: Shard) -> float:
    """Return the share of the words that belong to another server when a fifth one is added."""
    more = [*SERVERS, f"server{len(SERVERS)}"]
    return sum(shard(word, SERVERS) != shard(word, more) for word in words) / len(words)


def _words(file: str) -> list[str]:
    """Return the keys in a file, in lower case.  Raises `ToolError`."""
    try:
        with Path(file).open("rb") as lines:
            text = lines.read(LONGEST + 1)
    except OSError as error:
        hint = "; install the package wamerican, or name another file" if file == WORDS else ""
        raise tools.ToolError(f"{escape(file)}: {tools.reason_of(error)}{hint}") from error
    if len(text) > LONGEST:
        raise tools.ToolError(f"{escape(file)}: more than {LONGEST} bytes")
    words = text.decode("utf-8", "replace").lower().split()
    if not words:
        raise tools.ToolError(f"{escape(file)}: contains no words")
    return words
