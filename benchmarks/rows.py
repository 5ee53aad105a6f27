"""Rows of the two tables: targets, and further measurements."""

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
    "get": "memcached cached",
    "set": "memcached cached",
}
"""Contestants of each load in the order of a round: compared ones are adjacent."""

IDLERS = ("c", "loop", "uvloop", "asyncio", "gevent", "twisted")
"""Contestants whose idle connections are measured. A thread or a process for each of 5,000 is not comparable."""

MEMORY_BAR = 1.0
"""Target: maximum KiB for each idle connection under `loop`."""


@dataclass(frozen=True)
class Row:
    """One target: under `load`, the rate of `ours` is at least `bar` times that of the best of `against`."""

    ours: str
    load: str
    against: str
    bar: float
    requires_all: bool = False
    """Whether every connection must also get replies."""
    per_cpu: bool = False
    """Whether the target is for the rate per second of the server's CPU time."""

    @property
    def rivals(self) -> tuple[str, ...]:
        """The contestants it is compared with."""
        return tuple(self.against.split())

    @property
    def name(self) -> str:
        """The name of the row, in which --only is searched for."""
        return f"{self.ours} {self.load} against {self.against}"


ROWS = (
    Row("loop", "persistent", "c", 0.80),
    Row("loop", "thousand", "c", 0.80, requires_all=True),
    Row("loop", "conversations", "c", 0.90),
    Row("loop", "pipelined", "c", 0.75),
    Row("loop", "persistent", "uvloop", 0.95),
    Row("loop", "conversations", "uvloop", 0.95),
    Row("impure", "persistent", "c", 0.75),
    Row("pool", "conversations", "stock-threads", 3.0),
    Row("threads", "pipelined", "stock-threads", 3.0),
    # Every engine, persistent, against the equivalent of the standard library.
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
    Row("cached", "get", "memcached", 0.60, per_cpu=True),
    Row("cached", "set", "memcached", 0.55, per_cpu=True),
)

Cell = tuple[str, str]
"""A load's name and a contestant's: the unit of measurement."""


def cells(only: str | None, bars_only: bool) -> dict[str, list[str]]:
    """Return the contestants of each load, in the order of GRID.

    `only` is a regular expression searched for in "CONTESTANT LOAD"; the cells that a selected one is compared with are
    selected as well. `bars_only` omits cells without a target.
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
    """Return the contestants whose idle connections are measured; `only` is searched for in "CONTESTANT idle"."""
    return [
        name
        for name in IDLERS
        if (not bars_only or name == "loop") and (only is None or re.search(only, f"{name} idle"))
    ]
