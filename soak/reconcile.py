"""Reconciliation: the counters of a daemon and its log must agree on every conversation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from daemons.operating.metrics.stats import Figures
from daemons.serving.conversation.endings import Ending

#: Access line of one conversation, docs/operating.md.
ACCESS = re.compile(
    r"\S+ \S+ [A-Z]+ daemons\.[\w-]+\.access\[\d+\] \S+ (?P<ending>\w+) "
    r"messages=(?:\d+|-) received=(?:\d+|-) sent=(?:\d+|-) seconds=\d+\.\d{3}(?: reason=(?:\w[\w-]*|\".*\"))?"
)
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<level>[A-Z]+) (?P<logger>[\w.-]+)\[\d+\] ")
READY = re.compile(r"[\w-]+ ready \S+.* engine=\w+ processes=\d+ pid=\d+")
DROPPED = re.compile(r"\S+ \S+ WARNING daemons\.operating\.logging\.logs\[\d+\] dropped lines: (\d+) \(\d+ bytes\)")

#: Expected errors: a process was killed.
PROVOKED = re.compile(r"(?:died of|was killed by) signal 9")

#: Under `pool` and `loop`, log lines are buffered for up to 250 ms and lost with kill -9: at most this many.
LOST_WITH_A_KILL = 60

#: Counters are copied to a file once a second: a killed daemon has counted at most this many conversations since the
#: last copy.
UNCOPIED_WITH_A_KILL = 4 * LOST_WITH_A_KILL

#: Lines of one kind that are quoted in a complaint.
QUOTED = 2


@dataclass
class Log:
    """Contents of one daemon's log."""

    endings: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    dropped: int = 0
    tracebacks: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def read(lines: Iterable[str]) -> Log:
    """Parse the lines of all files of a log."""
    log = Log()
    for each in lines:
        line = each.rstrip("\n")
        log.lines += 1
        if found := ACCESS.fullmatch(line):
            log.endings[found["ending"]] += 1
            continue
        if found := DROPPED.fullmatch(line):
            log.dropped += int(found[1])
            continue
        if "Traceback" in line:
            log.tracebacks.append(line)
        known = LINE.match(line)
        if known is None or known["logger"].endswith(".access"):
            if not READY.fullmatch(line):
                log.unknown.append(line)
        elif known["level"] in ("ERROR", "CRITICAL") and not PROVOKED.search(line):
            log.errors.append(line)
    return log


def complaints(name: str, log: Log, runs: Sequence[Figures], kills: int) -> Iterator[str]:
    """Yield each discrepancy and each unexpected line.

    Args:
        runs: the counters of each run of the daemon; the last run is stopped.
        kills: number of processes that were killed on purpose."""
    counted = Counter[str]()
    for run in runs:
        counted.update(run.endings)
    dropped = sum(run.dropped_lines for run in runs)
    missing = 0
    for word in (ending.word for ending in Ending):
        less = counted[word] - log.endings[word]
        missing += max(0, less)
        if less < -kills * UNCOPIED_WITH_A_KILL:
            yield f"{name}: {log.endings[word]} log lines with {word}, but {counted[word]} counted"
        elif less > dropped + kills * LOST_WITH_A_KILL:
            yield f"{name}: {counted[word]} conversations counted as {word}, but {log.endings[word]} log lines"
    if missing > dropped + kills * LOST_WITH_A_KILL:
        yield f"{name}: {missing} conversations without a log line, with {kills} kills and {dropped} dropped lines"
    if dropped != log.dropped and not kills:
        yield f"{name}: {dropped} lines dropped, but {log.dropped} reported in the log"
    for run in runs:
        rest = run.accepted - sum(run.endings.values()) - run.lost - run.active
        if rest:
            ended = sum(run.endings.values())
            yield f"{name}: accepted {run.accepted}, ended {ended}, lost {run.lost}, active {run.active}"
    if not kills and (lost := sum(run.lost for run in runs)):
        yield f"{name}: {lost} conversations lost, although no process was killed"
    if counted[Ending.FAILED.word]:
        yield f"{name}: {counted[Ending.FAILED.word]} conversations failed"
    for what, lines in (
        ("tracebacks", log.tracebacks),
        ("errors", [line for line in log.errors if line not in log.tracebacks]),
        ("lines of unknown format", log.unknown),
    ):
        if lines:
            yield f"{name}: {len(lines)} {what}: {' | '.join(line[:300] for line in lines[:QUOTED])}"
