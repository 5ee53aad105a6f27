"""Statistics of a daemon, read from its scoreboard without its help.  The daemon may hang, or have ended."""

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

#: Seconds without a heartbeat after which a process counts as hanging.  A process writes a heartbeat each second.
HANGING_AFTER = 5.0

#: Upper bound of a valid time, in seconds since 1970: the year 5138.
MAX_TIME = 1e11


class UnreadableError(Exception):
    """The scoreboard does not exist or cannot be read.  The text names the file and the reason."""


class NeverRunError(UnreadableError):
    """The scoreboard does not exist."""


@dataclass(frozen=True)
class Process:
    """A running process of the daemon."""

    pid: int
    #: ``supervisor`` of workers; ``worker``; or ``child``, which serves one connection.
    role: str
    #: Start time, in seconds since 1970.
    started: float
    #: Seconds since the heartbeat of its leading thread.
    silent: float
    active: int


@dataclass(frozen=True)
class Figures:
    """Totals of all processes since the start of the daemon, and its current state.

    The fields are the keys of ``daemons stats NAME --json``; they are stable, and more may be added."""

    name: str
    #: ``running``; ``hanging``: a process has had no heartbeat, or has been stalled, for `HANGING_AFTER` seconds;
    #: ``stopped`` as requested; ``dead``: it died, for example by SIGKILL.
    state: str
    engine: str
    #: Pid of the first process, which `daemons stop` or supervisord stops.
    pid: int
    #: In seconds since 1970; `stopped` is None while the daemon runs, or if unknown.
    started: float
    stopped: float | None
    #: The longest time without a heartbeat of any running process, in seconds; None if the daemon does not run.
    silent: float | None
    accepted: int
    active: int
    #: Conversations lost with a process that died.
    lost: int
    refused: dict[str, int]
    messages: int
    received: int
    sent: int
    #: Ended conversations: count by ending, total seconds, and cumulative histogram of durations as (bound in seconds,
    #: count); the last bound is infinite.
    endings: dict[str, int]
    seconds: float
    durations: list[tuple[float, int]]
    dropped_lines: int
    worker_restarts: int
    #: Number of stalls of more than a second; seconds of the current one, None without one.
    stalls: int
    stalled: float | None
    processes: list[Process]
    #: Bytes of unfinished messages and unsent replies in running processes, and number of waits of a connection for
    #: space in that budget (``[limits] held``).  Refusals are in `refused`.
    held: int = 0
    waits: int = 0
    #: Datagrams dropped by the kernel because a receive buffer was full.
    datagrams_dropped: int = 0
    #: Pauses of a listener for ``[limits] max_rate``.
    rate_pauses: int = 0
    #: Bytes of dropped log lines.
    dropped_bytes: int = 0
    #: How often the limit of connections was reached.
    full: int = 0
    #: Circuit breakers of upstream servers: open now in running processes; and number of times that one has opened.
    breakers_open: int = 0
    breakers_opened: int = 0

    @property
    def ended(self) -> int:
        return sum(self.endings.values())


def path_of(settings: Settings) -> Path:
    """Return the path of the daemon's scoreboard."""
    return settings.run / f"{settings.name}.metrics"


def read(path: Path) -> Figures:
    """Read the scoreboard at `path`.  Raises `UnreadableError`."""
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
    """Return the figures of `scoreboard`, which may be in use.  Raises `UnreadableError`, which begins with `where`."""
    try:
        about, slots = _slots(scoreboard)
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        reason = error if isinstance(error, _Foreign) else f"not a daemon's scoreboard ({type(error).__name__})"
        raise UnreadableError(f"{where}: {reason}") from None
    first = slots[0]
    now = time.monotonic()
    totals = {key: sum(slot.words[key] for slot in slots) for key in first.words}
    processes = [
        Process(slot.words["pid"], slot.role, slot.words["started"], max(0.0, now - slot.words["heartbeat"]), slot.open)
        for slot in slots
        if slot.alive
    ]
    # The others exit after the first; their children may take a moment longer.
    silent = max((each.silent for each in processes), default=0.0) if first.alive else None
    stopped = first.words["stopped"] or None
    stalled = max(
        (now - slot.words["stalled"] for slot in slots if slot.alive and slot.words.get("stalled")), default=None
    )
    if silent is not None:
        state = "hanging" if max(silent, stalled or 0.0) > HANGING_AFTER else "running"
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
        full=totals.get("full", 0),
        dropped_bytes=totals.get("dropped_bytes", 0),
        breakers_open=sum(slot.words.get("breakers_open", 0) for slot in slots if slot.alive),
        breakers_opened=totals.get("breakers_opened", 0),
        processes=processes,
    )


class _Foreign(ValueError):
    """The file is not a scoreboard, or is damaged.  The text is for the user."""


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
    """Return the description in page 0, and every slot that was ever used."""
    head = os.pread(scoreboard.descriptor, HEAD.size, 0)
    if len(head) < HEAD.size or not head.startswith(MAGIC):
        raise _Foreign("not a daemon's scoreboard")
    _, form, length, checksum = HEAD.unpack(head)
    if form != FORMAT:
        raise _Foreign(f"format {form}, but {FORMAT} is expected; written by another release of the suite")
    text = os.pread(scoreboard.descriptor, min(length, 1 << 20), HEAD.size)
    if zlib.crc32(text) != checksum:
        raise _Foreign("damaged: its checksum is wrong")
    about = json.loads(text)
    page = about["page"]
    size = os.fstat(scoreboard.descriptor).st_size
    if size < 2 * page or size % page:
        raise _Foreign(f"damaged: {size} bytes are not a whole number of slots")
    memory = scoreboard.memory()
    slots = [
        _slot(about, memory[place * page : (place + 1) * page], scoreboard.alive(place))
        for place in range(1, size // page)
    ]
    # A slot that no process has claimed is empty.
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
    if not all(0 <= words[name] < MAX_TIME for name in about["reals"]):
        raise _Foreign("damaged: a time is out of range")
    return _Slot(words, refusals, endings, about["roles"][words["role"]], alive)
