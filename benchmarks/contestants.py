"""Who is measured. To add one, add a line.

Each prints `NAME ready tcp://127.0.0.1:PORT` on standard error, and ends on SIGTERM.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Side(Enum):
    """Whose code it is, which decides how it is started."""

    REFERENCE = "reference"
    OURS = "ours"
    PEER = "peer"


@dataclass(frozen=True)
class Contestant:
    """One server that answers Sir Launcelot's questions."""

    name: str
    what: str
    side: Side
    words: tuple[str, ...] = ()
    """A peer's module in benchmarks.peers and its arguments; our options of `daemons run launcelot`."""
    package: str | None = None
    """What a peer needs beyond the standard library."""

    def command(self, reference: Path, peer_python: Path, scratch: Path) -> list[str]:
        """How it is started; all of it is run from the root of the repository."""
        if self.side is Side.REFERENCE:
            return [str(reference)]
        if self.side is Side.PEER:
            module, *arguments = self.words
            python = str(peer_python) if self.package else sys.executable
            return [python, "-m", f"benchmarks.peers.{module}", *arguments]
        installed = Path(sys.executable).with_name("daemons")
        daemons = [str(installed)] if installed.exists() else [sys.executable, "-m", "daemons"]
        return [*daemons, "run", "launcelot", "--port", "0", "--run", str(scratch), *self.words]


def _ours(engine: str, *more: str, name: str = "", what: str = "") -> Contestant:
    words = ("--engine", engine, *more)
    return Contestant(name or engine, what or f"Launcelot, engine = {engine}", Side.OURS, words)


def _peer(name: str, what: str, *words: str, package: str | None = None) -> Contestant:
    return Contestant(name, what, Side.PEER, words, package)


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("c", "C on epoll", Side.REFERENCE),
        _ours("loop"),
        _ours(
            "loop",
            "--set",
            "daemon.service=benchmarks.impure:ImpureLauncelot",
            name="impure",
            what="Launcelot not pure, engine = loop",
        ),
        _ours("pool"),
        _ours("threads"),
        _ours("forks"),
        _ours("one"),
        _peer("uvloop", "asyncio Protocol on uvloop", "protocol", "uvloop", package="uvloop"),
        _peer("asyncio", "asyncio Protocol", "protocol", "asyncio"),
        _peer("gevent", "gevent StreamServer", "gevent_stream", package="gevent"),
        _peer("twisted", "Twisted Protocol", "twisted_protocol", package="Twisted"),
        _peer("stock-threads", "stock ThreadingTCPServer", "stock", "threads"),
        _peer("stock-batched", "stock ThreadingTCPServer, one write a batch", "stock", "threads", "batched"),
        _peer("stock-forks", "stock ForkingTCPServer", "stock", "forks"),
        _peer("stock-one", "stock TCPServer", "stock", "one"),
    )
}
