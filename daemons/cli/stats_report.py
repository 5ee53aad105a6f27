"""``daemons stats``: the figures of one daemon, or a line for each of them, and the exit code that goes with them."""

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
from daemons.operating.metrics.stats import HANGS, Figures, NeverRunError, UnreadableError, path_of, read

#: Exit codes of ``daemons stats``: nothing can be read; a process hangs; the daemon does not run.
UNREADABLE, HANGING, NOT_RUNNING = 1, 3, 4


def show(settings: Settings, as_json: bool) -> int:
    """``daemons stats NAME``; returns the exit code."""
    try:
        found = read(path_of(settings))
    except UnreadableError as error:
        print(f"{settings.name}: {error}", file=sys.stderr)
        return _code_of(error)
    _print(json.dumps(as_dict(found), indent=2) if as_json else as_text(found))
    return code(found)


def show_all(run: Path, names: Sequence[str], as_json: bool) -> int:
    """``daemons stats`` for all daemons, one line for each; returns the highest exit code of any."""
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
        _print("\n".join(f"{name:<{width}}  {_line(each)}" for name, each in found.items()))
    return max((_code_of(each) if isinstance(each, Exception) else code(each) for each in found.values()), default=0)


def code(found: Figures) -> int:
    """The exit code that tells a living daemon (0) from one that hangs or does not run."""
    return {"running": 0, "hanging": HANGING}.get(found.state, NOT_RUNNING)


def _code_of(error: UnreadableError) -> int:
    return NOT_RUNNING if isinstance(error, NeverRunError) else UNREADABLE


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader, as `head -1`, has seen enough.  Python would try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _line(found: Figures | UnreadableError) -> str:
    """``running  4242  last turn 0.3 s ago, 12 active``"""
    if isinstance(found, NeverRunError):
        return "not running  it has never run, or with another --run"
    if isinstance(found, UnreadableError):
        return f"unknown  {found}"
    if found.silent is None:
        return f"not running  {_ending(found)}"
    stalled = "" if found.stalled is None else f", stalled for {found.stalled:.1f} s"
    return f"{found.state:<8} {found.pid:>8}  last turn {found.silent:.1f} s ago, {found.active} active{stalled}"


def as_dict(found: Figures) -> dict[str, Any]:
    """For JSON, which has no infinity: there the last bound is null."""
    values = dataclasses.asdict(found)
    values["durations"] = [[None if bound == float("inf") else bound, number] for bound, number in found.durations]
    return values


def as_text(found: Figures) -> str:
    """For a person."""
    lines = [_headline(found)]
    rows: list[tuple[str, int, str]] = [
        ("accepted", found.accepted, ""),
        ("active", found.active, ""),
        ("refused", sum(found.refused.values()), _listed(found.refused)),
        ("messages", found.messages, ""),
        ("octets received", found.received, ""),
        ("octets sent", found.sent, ""),
        ("conversations ended", found.ended, _listed(found.endings)),
        ("lost with a process", found.lost, ""),
        ("worker restarts", found.worker_restarts, ""),
        ("stalls", found.stalls, "" if found.stalled is None else f"stalled for {found.stalled:.1f} s now"),
        ("dropped log lines", found.dropped_lines, ""),
        ("bytes held", found.held, f"waited for room {found.waits:,} times" if found.waits else ""),
        ("dropped datagrams", found.datagrams_dropped, ""),
        ("rate pauses", found.rate_pauses, ""),
    ]
    width = max(len(f"{number:,}") for _, number, _ in rows)
    lines += [f"{name:<20} {number:>{width},}  {more}".rstrip() for name, number, more in rows]
    if found.ended:
        lines.append(f"{'time of each':<20} {_span(found.seconds / found.ended)} on average; {_quantiles(found)}")
    if len(found.processes) > 1:
        for each in found.processes:
            word = "HANGS: " if each.silent > HANGS else ""
            lines.append(
                f"{each.role + ' ' + str(each.pid):<20} {each.active:>{width},}  active, "
                f"{word}last turn {each.silent:.1f} s ago"
            )
    return "\n".join(lines)


def _headline(found: Figures) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.started))
    head = f"{found.name}: {found.state}, engine {found.engine}, pid {found.pid}, started {since}"
    if found.silent is not None:
        return f"{head}, last turn {found.silent:.1f} s ago"
    return f"{head}, {_ending(found)}"


def _ending(found: Figures) -> str:
    """How a daemon ended that does not run."""
    if found.stopped is not None:
        return f"stopped {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(found.stopped))}"
    return "ended without a word, as by kill -9"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{word} {number:,}" for word, number in counts.items() if number)


def _quantiles(found: Figures) -> str:
    """``half within 1 ms, 99 % within 16 ms``: bounds of classes, so up to four times too high."""
    parts = []
    for share, name in ((0.5, "half"), (0.99, "99 %")):
        bound = next(bound for bound, number in found.durations if number >= share * found.ended)
        parts.append(f"{name} within {_span(bound)}")
    return ", ".join(parts)


def _span(seconds: float) -> str:
    """Two figures of a duration: ``0.24 ms``, ``16 ms``, ``4.1 s``, ``1024 s``."""
    if seconds == float("inf"):
        return "more"
    value, unit = (seconds * 1000, "ms") if seconds < 1 else (seconds, "s")
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
