"""The books: what a daemon has counted, and what its log says, must agree, conversation by conversation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from daemons.operating.metrics.stats import Figures
from daemons.serving.conversation.endings import Ending

#: The line of one conversation, docs/operating.md.
ACCESS = re.compile(
    r"\S+ \S+ [A-Z]+ daemons\.[\w-]+\.access\[\d+\] \S+ (?P<ending>\w+) "
    r"messages=(?:\d+|-) received=(?:\d+|-) sent=(?:\d+|-) seconds=\d+\.\d{3}(?: reason=(?:\w[\w-]*|\".*\"))?"
)
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<level>[A-Z]+) (?P<logger>[\w.-]+)\[\d+\] ")
READY = re.compile(r"[\w-]+ ready \S+.* engine=\w+ processes=\d+ pid=\d+")
DROPPED = re.compile(r"\S+ \S+ WARNING daemons\.operating\.logging\.logs\[\d+\] dropped lines: (\d+) \(\d+ bytes\)")

#: Errors that were provoked: somebody was killed.
PROVOKED = re.compile(r"died of signal 9")

#: Under `pool` and `loop` lines wait up to 250 ms and are lost by kill -9; so many conversations end meanwhile at most.
LOST_WITH_A_KILL = 60

#: Figures are copied to a file once a second: a daemon that is killed has counted no more conversations than this since
#: the last copy.
UNCOPIED_WITH_A_KILL = 4 * LOST_WITH_A_KILL

#: Lines of one kind that are quoted in a complaint.
QUOTED = 2


@dataclass
class Log:
    """What stands in one daemon's log."""

    endings: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    dropped: int = 0
    tracebacks: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def read(lines: Iterable[str]) -> Log:
    """Every line, of all files of a log."""
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
    """What does not agree, or should not be there; `runs` are the figures of each run of the daemon, the last one
    stopped, and `kills` the number of processes that were killed on purpose."""
    counted = Counter[str]()
    for run in runs:
        counted.update(run.endings)
    dropped = sum(run.dropped_lines for run in runs)
    missing = 0
    for word in (ending.word for ending in Ending):
        less = counted[word] - log.endings[word]
        missing += max(0, less)
        if less < -kills * UNCOPIED_WITH_A_KILL:
            yield f"{name}: {log.endings[word]} lines say {word}, and {counted[word]} were counted"
        elif less > dropped + kills * LOST_WITH_A_KILL:
            yield f"{name}: {counted[word]} conversations were counted as {word}, and {log.endings[word]} lines say so"
    if missing > dropped + kills * LOST_WITH_A_KILL:
        yield f"{name}: {missing} conversations have no line, with {kills} kills and {dropped} dropped lines"
    if dropped != log.dropped and not kills:
        yield f"{name}: {dropped} lines were dropped, and the log tells of {log.dropped}"
    for run in runs:
        rest = run.accepted - sum(run.endings.values()) - run.lost - run.active
        if rest:
            ended = sum(run.endings.values())
            yield f"{name}: accepted {run.accepted}, ended {ended}, lost {run.lost}, active {run.active}"
    if not kills and (lost := sum(run.lost for run in runs)):
        yield f"{name}: {lost} conversations were lost, and nobody was killed"
    if counted[Ending.FAILED.word]:
        yield f"{name}: {counted[Ending.FAILED.word]} conversations failed"
    for what, lines in (
        ("tracebacks", log.tracebacks),
        ("errors", [line for line in log.errors if line not in log.tracebacks]),
        ("lines of no known form", log.unknown),
    ):
        if lines:
            yield f"{name}: {len(lines)} {what}: {' | '.join(line[:300] for line in lines[:QUOTED])}"
