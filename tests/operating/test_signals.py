"""Signals that reopen log files, and signals that a daemon ignores."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.serving import signals
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, alive, children, daemons, end_all, talk, until

#: A logging.ini with log files of its own.
OWN_FILE = """
    [loggers]
    keys = root
    [handlers]
    keys = file
    [formatters]
    keys =
    [logger_root]
    level = INFO
    handlers = file
    [handler_file]
    class = FileHandler
    args = ("own.log",)
"""


ENGINES = ("one", "threads", "forks", "loop", "pool")


@pytest.fixture
def suite(folder: Folder) -> Iterator[Folder]:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    yield folder
    end_all(folder.path)


@pytest.mark.parametrize(
    ("engine", "processes"), [*((engine, "1") for engine in ENGINES), ("loop", "2"), ("forks", "2")]
)
def test_signals_without_a_meaning_end_no_process(suite: Folder, engine: str, processes: str) -> None:
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", processes) as daemon:
        pids = [daemon.process.pid, *children(daemon.process.pid)]
        for pid in pids:
            for number in (*signals.UNUSED, signals.REOPEN):
                os.kill(pid, number)

        def all_logged() -> bool:
            ignored = Counter(re.findall(r"\[(\d+)\] (?:SIG\w+|signal \d+) ignored: ", daemon.out))
            opened = re.findall(r"\[(\d+)\] log files reopened", daemon.out)
            return ignored == {str(pid): len(signals.UNUSED) for pid in pids} and {*opened} == {*ignored}

        until(all_logged, "a line for each signal in each process")
        assert talk(daemon.port) == GRAIL
        assert all(map(alive, pids))
        assert daemon.stop() == 0


@pytest.mark.parametrize("number", signals.STOPPING, ids=lambda number: number.name)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_signal_that_stops_lets_a_conversation_finish(suite: Folder, processes: str, number: signal.Signals) -> None:
    with Live(suite.path, "launcelot", "--processes", processes) as daemon:
        assert talk(daemon.port) == GRAIL
        assert daemon.stop(number) == 0
        assert "stopping: " in daemon.out


def test_handler_that_a_service_has_installed_stays(suite: Folder) -> None:
    suite.module(
        "timed",
        """
        import signal
        import daemons

        received = []
        signal.signal(signal.SIGUSR2, lambda number, frame: received.append(number))

        class Timed(daemons.Service):
            framing = daemons.Until(b"?", limit=100)

            def respond(self, message):
                return b"%d" % len(received)
        """,
    )
    suite.write("timed", "[daemon]\nservice = timed:Timed\nport = 0\n")
    with Live(suite.path, "timed") as daemon:
        os.kill(daemon.process.pid, signal.SIGUSR2)
        until(lambda: talk(daemon.port, b"?") == b"1", "the service's own handler")
        os.kill(daemon.process.pid, signal.SIGPROF)
        until(lambda: "SIGPROF ignored" in daemon.out, "the line of a signal that came later")
        assert "SIGUSR2" not in daemon.out


@pytest.mark.parametrize(("engine", "processes"), [("threads", "1"), ("loop", "1"), ("pool", "2"), ("forks", "1")])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP], ids=lambda number: number.name)
def test_moved_file_of_a_handler_is_opened_again(
    suite: Folder, engine: str, processes: str, number: signal.Signals
) -> None:
    suite.write("logging", OWN_FILE)
    own, moved = suite.path / "own.log", suite.path / "own.log.1"
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", processes) as daemon:
        assert talk(daemon.port) == GRAIL
        until(lambda: own.read_text().count(" done messages=1 ") == 1, "the first access line")
        own.rename(moved)
        daemon.process.send_signal(number)
        until(own.exists, "the new file")

        def in_new_file() -> bool:
            talk(daemon.port)
            return " done messages=1 " in own.read_text()

        until(in_new_file, "an access line in the new file")
        assert daemon.stop() == 0


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("number", [None, signal.SIGUSR1, signal.SIGHUP])
def test_moved_log_of_a_detached_daemon_is_opened_again(
    suite: Folder, processes: str, number: signal.Signals | None
) -> None:
    """logrotate(8) moves the file; with a signal a new one is there at once, without one at the next line."""
    started = daemons(suite.path, "run", "launcelot", "--detach", "--processes", processes)
    assert started.returncode == 0, started.stderr
    port = int(re.search(r"tcp://127\.0\.0\.1:(\d+)", started.stderr)[1])  # type: ignore[index]
    log = suite.path / "logs" / "launcelot.detached.log"
    assert talk(port) == GRAIL
    until(lambda: " done messages=1 " in log.read_text(), "the access line")
    log.rename(log.with_suffix(".1"))
    if number is None:
        assert talk(port) == GRAIL
        until(lambda: log.exists() and " done messages=1 " in log.read_text(), "the access line in a new file")
        assert log.with_suffix(".1").read_text().count(" done messages=1 ") == 1
    else:
        os.kill(int((suite.path / "run" / "launcelot.pid").read_text()), number)
        until(log.exists, "the new file")
    assert daemons(suite.path, "stop", "launcelot").returncode == 0


def test_log_of_a_detached_daemon_that_cannot_be_written_is_counted(suite: Folder) -> None:
    started = daemons(suite.path, "run", "launcelot", "--detach", "--set", "log.size=1GiB")
    assert started.returncode == 0, started.stderr
    port = int(re.search(r"tcp://127\.0\.0\.1:(\d+)", started.stderr)[1])  # type: ignore[index]
    log = suite.path / "logs" / "launcelot.detached.log"
    until(lambda: " ready " in log.read_text() if log.exists() else False, "the ready line")
    log.unlink()
    log.symlink_to("/dev/full")
    for _ in range(7):
        assert talk(port) == GRAIL

    def counted() -> bool:
        shown = daemons(suite.path, "stats", "launcelot").stdout
        return re.search(r"^dropped log lines +7  \d+ bytes$", shown, re.MULTILINE) is not None

    until(counted, "seven lines counted")
    log.unlink()
    until(lambda: talk(port) and log.exists() and "dropped lines: 7 (" in log.read_text(), "the report")
    assert daemons(suite.path, "stop", "launcelot").returncode == 0
    assert Path("/dev/full").exists()
