"""``daemons stats NAME``: what a daemon has done, read from its scoreboard without asking the daemon; so
also of one that hangs, and of one that has ended."""

from __future__ import annotations

import json
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemons.operating.config.sections import Settings
from daemons.operating.metrics.scoreboard import FORMAT, HEAD, MAGIC, Scoreboard, open_copy

#: Seconds without a turn after which a process is said to hang; it makes one each second.
HANGS = 5.0


#: Seconds since 1970 that no clock says: the year 5138.
ALWAYS = 1e11


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
        scoreboard = open_copy(path)
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
