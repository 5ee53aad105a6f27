"""What is promised, and what is measured beside it: the two tables, declared."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.loads import LOADS

GRID = {
    "persistent": "c loop uvloop impure pool threads stock-threads forks stock-forks asyncio gevent twisted",
    "thousand": "c loop uvloop pool threads stock-threads asyncio gevent twisted",
    "conversations": "c loop uvloop pool threads stock-threads forks stock-forks asyncio gevent twisted",
    "pipelined": "c loop uvloop pool threads stock-threads stock-batched asyncio gevent twisted",
    "single": "c one stock-one",
    "file": "nginx httpd nginx-copying httpd-pool gunicorn-file waitress-file cheroot-file"
    " files stock-files stock-files-undelayed",
    "large": "nginx httpd",
    "closing": "nginx httpd",
    "hello": "handler wsgi gunicorn waitress cheroot",
    "xmlrpc": "calc stock-xmlrpc twisted-xmlrpc",
    "jsonrpc": "jsonrpc stock-jsonrpc",
}
"""Who is measured under which load, in the order of a round: those that are compared stand close together."""

IDLERS = ("c", "loop", "uvloop", "asyncio", "gevent", "twisted")
"""Who is asked what an idle connection costs. A thread or a process for each of 5,000 is another question."""

MEMORY_BAR = 1.0
"""KiB for each idle connection under `loop`, at most."""


@dataclass(frozen=True)
class Row:
    """One promise: under `load`, `ours` does at least `bar` times as much as `against`, or the best of those."""

    ours: str
    load: str
    against: str
    bar: float
    nobody_starves: bool = False
    """And every connection gets answers."""

    @property
    def rivals(self) -> tuple[str, ...]:
        """Those it is measured against."""
        return tuple(self.against.split())

    @property
    def name(self) -> str:
        """What --only looks at, and what a reader sees first."""
        return f"{self.ours} {self.load} against {self.against}"


ROWS = (
    Row("loop", "persistent", "c", 0.80),
    Row("loop", "thousand", "c", 0.80, nobody_starves=True),
    Row("loop", "conversations", "c", 0.90),
    Row("loop", "pipelined", "c", 0.75),
    Row("loop", "persistent", "uvloop", 0.95),
    Row("loop", "conversations", "uvloop", 0.95),
    Row("impure", "persistent", "c", 0.75),
    Row("pool", "conversations", "stock-threads", 3.0),
    Row("threads", "pipelined", "stock-threads", 3.0),
    # Every engine, persistent, against its stock counterpart: what the library has of the same shape.
    Row("one", "single", "stock-one", 1.0),
    Row("threads", "persistent", "stock-threads", 1.0),
    Row("forks", "persistent", "stock-forks", 1.0),
    Row("pool", "persistent", "stock-threads", 1.0),
    Row("loop", "persistent", "asyncio", 1.0),
    Row("httpd", "file", "nginx", 1.0),
    Row("httpd", "large", "nginx", 0.85),
    Row("httpd", "closing", "nginx", 0.9),
    Row("handler", "hello", "gunicorn waitress cheroot", 5.0),
    Row("wsgi", "hello", "gunicorn waitress cheroot", 4.0),
    Row("files", "file", "stock-files", 5.0),
    Row("httpd-pool", "file", "gunicorn-file waitress-file cheroot-file", 3.0),
    Row("calc", "xmlrpc", "stock-xmlrpc", 5.0),
    Row("calc", "xmlrpc", "twisted-xmlrpc", 4.0),
    Row("jsonrpc", "jsonrpc", "stock-jsonrpc", 5.0),
)

Cell = tuple[str, str]
"""A load's name and a contestant's: what is measured as one."""


def cells(only: str | None, bars_only: bool) -> dict[str, list[str]]:
    """Loads to contestants, in the order of GRID.

    `only` is a regular expression looked for in "CONTESTANT LOAD"; what a chosen cell is compared with, the
    reference included, comes with it. `bars_only` leaves out what no promise speaks of.
    """
    grid = [(load, name) for load, names in GRID.items() for name in names.split()]
    promised = {(row.load, name) for row in ROWS for name in (row.ours, *row.rivals)}
    chosen = {
        (load, name)
        for load, name in grid
        if (not bars_only or (load, name) in promised) and (only is None or re.search(only, f"{name} {load}"))
    }
    chosen |= {(row.load, name) for row in ROWS if (row.load, row.ours) in chosen for name in row.rivals}
    if not bars_only:
        chosen |= {(load, LOADS[load].reference) for load, _ in chosen}
    ordered = {load: [name for name in GRID[load].split() if (load, name) in chosen] for load in GRID}
    return {load: names for load, names in ordered.items() if names}


def idlers(only: str | None, bars_only: bool) -> list[str]:
    """Whose idle connections are weighed; `only` is looked for in "CONTESTANT idle"."""
    return [
        name
        for name in IDLERS
        if (not bars_only or name == "loop") and (only is None or re.search(only, f"{name} idle"))
    ]
