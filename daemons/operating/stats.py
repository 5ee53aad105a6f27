"""``daemons stats NAME``: what a daemon has done, read from its scoreboard without asking the daemon; so
also of one that hangs, and of one that has ended."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemons.operating.scoreboard import FORMAT, HEAD, MAGIC, Scoreboard
from daemons.operating.settings import Settings

#: Seconds without a turn after which a process is said to hang; it makes one each second.
HANGS = 5.0


#: Seconds since 1970 that no clock says: the year 5138.
ALWAYS = 1e11


#: Exit codes of ``daemons stats``: nothing can be read; a process hangs; the daemon does not run.
UNREADABLE, HANGING, NOT_RUNNING = 1, 3, 4


class UnreadableError(Exception):
    """There is no scoreboard, or it is none that can be read.  The text says which, and why."""


class NeverRunError(UnreadableError):
    """There is no scoreboard."""


@dataclass(frozen=True)
class Process:
    """A living process of the daemon."""

    pid: int
    #: ``supervisor``, which only keeps workers; ``worker``; or ``child``, which serves one visitor.
    role: str
    #: When it began, in seconds since 1970.
    started: float
    #: Seconds since its leading thread made a turn.
    silent: float
    active: int


@dataclass(frozen=True)
class Figures:
    """What a daemon has done since it was started, all processes together, and is doing now.

    These are the keys of ``daemons stats NAME --json`` and stay what they are; more may come."""

    name: str
    #: ``running``; ``hanging``: a process has not made its turn, or has been stalled, for `HANGS` seconds;
    #: ``stopped``, as it was asked to; ``dead``: it ended without a word, as by kill -9.
    state: str
    engine: str
    #: Of the process that was started, which `daemons stop` or supervisord would stop.
    pid: int
    #: In seconds since 1970; `stopped` is None while it runs, or where nobody knows.
    started: float
    stopped: float | None
    #: The longest that any of its processes has been silent; None: it does not run.
    silent: float | None
    accepted: int
    active: int
    #: Conversations that ended with the process that held them.
    lost: int
    refused: dict[str, int]
    messages: int
    received: int
    sent: int
    #: All conversations that have ended: how many with which word, the seconds that they took together,
    #: and how many took no more than so many seconds, as (bound, count); the last bound is infinite.
    endings: dict[str, int]
    seconds: float
    durations: list[tuple[float, int]]
    dropped_lines: int
    worker_restarts: int
    #: How often something stalled for more than a second; and for how many seconds it has now, None: it does not.
    stalls: int
    stalled: float | None
    processes: list[Process]
    #: Bytes of unfinished messages and unsent replies that the living processes hold, and how many times a connection
    #: has waited for room in that budget (``[limits] held``); those refused are in `refused`.
    held: int = 0
    waits: int = 0
    #: Datagrams that the kernel dropped for lack of room in a receive buffer.
    datagrams_dropped: int = 0
    #: Pauses of a listener for ``[limits] max_rate``.
    rate_pauses: int = 0

    @property
    def ended(self) -> int:
        return sum(self.endings.values())


def path_of(settings: Settings) -> Path:
    """Where the daemon's scoreboard lies."""
    return settings.run / f"{settings.name}.metrics"


def read(path: Path) -> Figures:
    """What the file says.  Raises `UnreadableError`."""
    try:
        scoreboard = Scoreboard(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise NeverRunError(f"{path}: no such file; the daemon has not run yet, or with another --run") from None
    except OSError as error:
        raise UnreadableError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    try:
        return figures(scoreboard, str(path))
    finally:
        scoreboard.close()


def figures(scoreboard: Scoreboard, where: str = "the scoreboard") -> Figures:
    """What `scoreboard` says, perhaps while it is written.  Raises `UnreadableError`, which begins with `where`."""
    try:
        about, slots = _slots(scoreboard)
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        reason = error if isinstance(error, _Foreign) else f"not what a daemon writes ({type(error).__name__})"
        raise UnreadableError(f"{where}: {reason}") from None
    first = slots[0]
    now = time.monotonic()
    totals = {key: sum(slot.words[key] for slot in slots) for key in first.words}
    processes = [
        Process(slot.words["pid"], slot.role, slot.words["started"], max(0.0, now - slot.words["heartbeat"]), slot.open)
        for slot in slots
        if slot.alive
    ]
    # The others leave with the first; a child of theirs may take a moment.
    silent = max((each.silent for each in processes), default=0.0) if first.alive else None
    stopped = first.words["stopped"] or None
    stalled = max(
        (now - slot.words["stalled"] for slot in slots if slot.alive and slot.words.get("stalled")), default=None
    )
    if silent is not None:
        state = "hanging" if max(silent, stalled or 0.0) > HANGS else "running"
    else:
        state = "dead" if stopped is None else "stopped"
    endings = {word: sum(sum(slot.endings[word]) for slot in slots) for word in about["endings"]}
    each_class = [
        sum(slot.endings[word][place] for slot in slots for word in about["endings"])
        for place in range(len(about["bounds"]) + 1)
    ]
    bounds = [*about["bounds"], float("inf")]
    return Figures(
        name=about["name"],
        state=state,
        engine=about["engine"],
        pid=first.words["pid"],
        started=first.words["started"],
        stopped=None if silent is not None else stopped,
        silent=silent,
        accepted=totals["accepted"],
        active=sum(max(0, slot.open) for slot in slots if slot.alive),
        lost=totals["lost"] + sum(max(0, slot.open) for slot in slots if not slot.alive),
        refused={word: sum(slot.refusals[word] for slot in slots) for word in about["refusals"]},
        messages=totals["messages"],
        received=totals["received"],
        sent=totals["sent"],
        endings=endings,
        seconds=totals["seconds"],
        durations=[(bound, sum(each_class[: place + 1])) for place, bound in enumerate(bounds)],
        dropped_lines=totals["dropped"],
        worker_restarts=totals["restarts"],
        stalls=totals.get("stalls", 0),
        stalled=None if silent is None else stalled,
        held=sum(slot.words.get("held", 0) for slot in slots if slot.alive),
        waits=totals.get("waits", 0),
        datagrams_dropped=totals.get("datagrams_dropped", 0),
        rate_pauses=totals.get("rate_pauses", 0),
        processes=processes,
    )


class _Foreign(ValueError):
    """Text for a person."""


@dataclass(frozen=True)
class _Slot:
    words: dict[str, Any]
    refusals: dict[str, int]
    endings: dict[str, list[int]]
    role: str
    alive: bool

    @property
    def open(self) -> int:
        words = self.words
        begun = words["accepted"] + words["taken"] - words["handed"]
        return int(begun - words["lost"] - sum(map(sum, self.endings.values())))


def _slots(scoreboard: Scoreboard) -> tuple[dict[str, Any], list[_Slot]]:
    """Page 0, and every slot that was ever used."""
    head = os.pread(scoreboard.descriptor, HEAD.size, 0)
    if len(head) < HEAD.size or not head.startswith(MAGIC):
        raise _Foreign("not a daemon's scoreboard")
    _, form, length, checksum = HEAD.unpack(head)
    if form != FORMAT:
        raise _Foreign(f"of format {form}, where this is made for {FORMAT}; another release of the suite wrote it")
    text = os.pread(scoreboard.descriptor, min(length, 1 << 20), HEAD.size)
    if zlib.crc32(text) != checksum:
        raise _Foreign("damaged: its checksum is wrong")
    about = json.loads(text)
    page = about["page"]
    size = os.fstat(scoreboard.descriptor).st_size
    if size < 2 * page or size % page:
        raise _Foreign(f"damaged: {size} octets are no whole number of slots")
    memory = scoreboard.memory()
    slots = [
        _slot(about, memory[place * page : (place + 1) * page], scoreboard.alive(place))
        for place in range(1, size // page)
    ]
    # A slot that was made and never taken holds nothing.
    slots = [slot for slot in slots if slot.words["pid"]]
    if not slots:
        raise _Foreign("no process has written to it yet")
    return about, slots


def _slot(about: dict[str, Any], memory: memoryview, alive: bool) -> _Slot:
    counts, reals = memory.cast("Q").tolist(), memory.cast("d").tolist()
    words = {name: (reals if name in about["reals"] else counts)[place] for place, name in enumerate(about["words"])}
    rest = iter(counts[len(words) :])
    classes = len(about["bounds"]) + 1
    refusals = {word: next(rest) for word in about["refusals"]}
    endings = {word: [next(rest) for _ in range(classes)] for word in about["endings"]}
    if not all(0 <= words[name] < ALWAYS for name in about["reals"]):
        raise _Foreign("damaged: what it says of times is out of all bounds")
    return _Slot(words, refusals, endings, about["roles"][words["role"]], alive)


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
