"""``daemons stats``: the statistics of one daemon, or one line for each, and an exit code."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemons.operating.config.sections import Settings
from daemons.operating.metrics.slot import BOUNDS
from daemons.operating.metrics.stats import HANGING_AFTER, Figures, NeverRunError, UnreadableError, path_of, read
from daemons.printable import escape, escape_text

#: Exit codes: the scoreboard is unreadable; a process hangs; the daemon does not run.
UNREADABLE, HANGING, NOT_RUNNING = 1, 3, 4


def show(settings: Settings, as_json: bool) -> int:
    """Print the statistics of one daemon; return the exit code."""
    try:
        found = read(path_of(settings))
    except UnreadableError as error:
        print(escape(f"{settings.name}: {error}"), file=sys.stderr)
        return _code_of(error)
    _print(json.dumps(as_dict(found), indent=2) if as_json else as_text(found))
    return code(found)


def show_all(run: Path, names: Sequence[str], as_json: bool) -> int:
    """Print one line for each daemon; return the highest of their exit codes."""
    found: dict[str, Figures | UnreadableError] = {}
    for name in names:
        try:
            found[name] = read(run / f"{name}.metrics")
        except UnreadableError as error:
            found[name] = error
    if as_json:
        values = [
            as_dict(each) if isinstance(each, Figures) else {"name": name, "state": "unknown", "error": str(each)}
            for name, each in found.items()
        ]
        _print(json.dumps(values, indent=2))
    else:
        width = max(map(len, names), default=0)
        _print("\n".join(f"{escape(name):<{width}}  {_line(each)}" for name, each in found.items()))
    return max((_code_of(each) if isinstance(each, Exception) else code(each) for each in found.values()), default=0)


def code(found: Figures) -> int:
    """Return the exit code for the state of a daemon; 0 if it is running."""
    return {"running": 0, "hanging": HANGING}.get(found.state, NOT_RUNNING)


def _code_of(error: UnreadableError) -> int:
    return NOT_RUNNING if isinstance(error, NeverRunError) else UNREADABLE


def _print(text: str) -> None:
    try:
        print(escape_text(text), flush=True)
    except BrokenPipeError:
        # The reader, such as `head -1`, has exited.  Python would retry at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _line(found: Figures | UnreadableError) -> str:
    """``running  4242  heartbeat 0.3 s ago, 12 active``"""
    if isinstance(found, NeverRunError):
        return "not running  never started, or with another --run"
    if isinstance(found, UnreadableError):
        return f"unknown  {found}"
    if found.silent is None:
        return f"not running  {_ending(found)}"
    stalled = "" if found.stalled is None else f", stalled for {found.stalled:.1f} s"
    return f"{found.state:<8} {found.pid:>8}  heartbeat {found.silent:.1f} s ago, {found.active} active{stalled}"


def as_dict(found: Figures) -> dict[str, Any]:
    """Return the values for JSON, with null for the last, infinite bound."""
    values = dataclasses.asdict(found)
    values["durations"] = [[None if bound == float("inf") else bound, number] for bound, number in found.durations]
    return values


def as_text(found: Figures) -> str:
    """Return the statistics as text."""
    lines = [_headline(found)]
    rows: list[tuple[str, int, str]] = [
        ("accepted", found.accepted, ""),
        ("active", found.active, ""),
        ("refused", sum(found.refused.values()), _listed(found.refused)),
        ("messages", found.messages, ""),
        ("bytes received", found.received, ""),
        ("bytes sent", found.sent, ""),
        ("conversations ended", found.ended, _listed(found.endings)),
        ("lost with a process", found.lost, ""),
        ("worker restarts", found.worker_restarts, ""),
        ("stalls", found.stalls, "" if found.stalled is None else f"currently stalled for {found.stalled:.1f} s"),
        ("dropped log lines", found.dropped_lines, f"{found.dropped_bytes:,} bytes" if found.dropped_bytes else ""),
        ("bytes held", found.held, f"{found.waits:,} waits for space" if found.waits else ""),
        ("dropped datagrams", found.datagrams_dropped, ""),
        ("rate pauses", found.rate_pauses, ""),
        ("full", found.full, ""),
        ("circuit breakers", found.breakers_open, f"opened {found.breakers_opened:,} times"),
    ]
    width = max(len(f"{number:,}") for _, number, _ in rows)
    lines += [f"{name:<20} {number:>{width},}  {more}".rstrip() for name, number, more in rows]
    if found.ended:
        lines.append(f"{'duration':<20} mean {_span(found.seconds / found.ended)}, {_percentiles(found)}")
    if len(found.processes) > 1:
        for each in found.processes:
            mark = "HANGING: " if each.silent > HANGING_AFTER else ""
            lines.append(
                f"{each.role + ' ' + str(each.pid):<20} {each.active:>{width},}  active, "
                f"{mark}heartbeat {each.silent:.1f} s ago"
            )
    return "\n".join(lines)


def _headline(found: Figures) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.started))
    head = f"{found.name}: {found.state}, engine {found.engine}, pid {found.pid}, started {since}"
    if found.silent is not None:
        return f"{head}, heartbeat {found.silent:.1f} s ago"
    return f"{head}, {_ending(found)}"


def _ending(found: Figures) -> str:
    """Return how a stopped daemon ended."""
    if found.stopped is not None:
        return f"stopped {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(found.stopped))}"
    return "died, for example by SIGKILL"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{word} {number:,}" for word, number in counts.items() if number)


def _percentiles(found: Figures) -> str:
    """Return ``p50 ≤ 1 ms, p99 ≤ 16 ms``: upper bounds of the classes, up to four times the exact value."""
    parts = []
    for fraction, name in ((0.5, "p50"), (0.99, "p99")):
        bound = next(bound for bound, number in found.durations if number >= fraction * found.ended)
        parts.append(f"{name} > {_span(BOUNDS[-1])}" if bound == float("inf") else f"{name} ≤ {_span(bound)}")
    return ", ".join(parts)


def _span(seconds: float) -> str:
    """Return a duration with two significant digits: ``0.24 ms``, ``16 ms``, ``4.1 s``, ``1024 s``."""
    value, unit = (seconds * 1000, "ms") if seconds < 1 else (seconds, "s")
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
