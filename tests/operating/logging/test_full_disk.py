"""While the log file cannot grow, the lines in it and the dropped ones together are the conversations.

RLIMIT_FSIZE of setrlimit(2) takes the place of a full disk: a write beyond it is cut short, and the next one fails.
The tests raise the limit of the running processes, as if there were space again."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from daemons.operating.metrics.stats import Figures, read
from daemons.serving.engines import ENGINES
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, children, end_all, talk, type_in, until

#: Kilobytes at which files end.  More than a daemon's scoreboard has.
LIMIT = 256

#: Bytes of the log before the daemon starts: about 15 lines fit after them.
FILLED = LIMIT * 1024 - 2000

#: Numbers of conversations without space and with space.
WITHOUT, WITH = 60, 10

ACCESS = re.compile(
    r"daemons\.launcelot\.access\[\d+\] 127\.0\.0\.1:\d+ done messages=1 received=19 sent=23 seconds=\S+$"
)

REPORT = re.compile(r"dropped lines: (\d+) \((\d+) bytes\)$")

#: ``daemons`` with that limit.
LIMITED = ("bash", "-c", f'ulimit -S -f {LIMIT}; exec daemons "$@"', "-")


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD.replace("1060", "0") + "[log]\nsize = 100MiB\n")
    return folder


def fill(path: Path) -> None:
    """Make a log that leaves little space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 99 + "\n")
    with path.open("a") as file:
        file.write(("x" * 99 + "\n") * (FILLED // 100 - 1))


def give_space(pids: Iterable[int]) -> None:
    """Let the files of these processes grow again."""
    for pid in pids:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def lines_with(path: Path, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    return [found for line in path.read_text().splitlines() if (found := pattern.search(line))]


def converse(port: int, path: Path, figures: Callable[[], Figures], pids: Callable[[], list[int]]) -> None:
    """Make conversations without space and with space, and compare their number with the log and the statistics."""
    for _ in range(WITHOUT):
        assert talk(port) == GRAIL
    until(lambda: len(lines_with(path, ACCESS)) + figures().dropped_lines == WITHOUT, "all lines, or their loss")
    assert figures().dropped_lines > 20
    give_space(pids())
    for _ in range(WITH):
        assert talk(port) == GRAIL
    count = WITHOUT + WITH
    until(lambda: len(lines_with(path, ACCESS)) + figures().dropped_lines == count, "all lines, or their loss")
    lengths = [len(found.string) + 1 for found in lines_with(path, ACCESS)]
    dropped = figures().dropped_lines
    assert min(lengths) * (dropped - 1) < figures().dropped_bytes <= max(lengths) * dropped + 200


def reported(path: Path) -> tuple[int, int]:
    """Return the sums of lines and bytes of all reports in the log."""
    found = lines_with(path, REPORT)
    return sum(int(each[1]) for each in found), sum(int(each[2]) for each in found)


@pytest.mark.parametrize("engine", ENGINES)
def test_conversations_are_lines_and_dropped_lines(suite: Folder, engine: str) -> None:
    path = suite.path / "log"
    fill(path)
    output = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        with Live(suite.path, "launcelot", "--engine", engine, command=LIMITED, stdout=output) as daemon:
            pid = daemon.process.pid

            def figures() -> Figures:
                return read(suite.path / "run" / "launcelot.metrics")

            converse(daemon.port, path, figures, lambda: [pid, *children(pid)])
            if engine != "forks":  # a child does not live until there is space
                until(lambda: reported(path) == (figures().dropped_lines, figures().dropped_bytes), "the reports")
            assert daemon.stop() == 0
            assert len(lines_with(path, ACCESS)) + figures().dropped_lines == WITHOUT + WITH
    finally:
        os.close(output)


def test_log_writer_of_a_detached_daemon_counts_dropped_lines(suite: Folder) -> None:
    path = suite.path / "logs" / "launcelot.detached.log"
    fill(path)
    try:
        started = type_in(suite.path, *LIMITED, "run", "launcelot", "--detach")
        assert started.returncode == 0, started.stderr
        port = int(re.search(r":(\d+) engine=", started.stderr)[1])  # type: ignore[index]
        pid = int((suite.path / "run" / "launcelot.pid").read_text("ascii"))

        def figures() -> Figures:
            return read(suite.path / "run" / "launcelot.metrics")

        converse(port, path, figures, lambda: [pid, *children(pid)])
        until(lambda: reported(path) == (figures().dropped_lines, figures().dropped_bytes), "the reports")
    finally:
        end_all(suite.path)
