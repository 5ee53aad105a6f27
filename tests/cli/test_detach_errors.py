"""Errors of a detached start are printed on the terminal, with the exit code of a foreground start."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operating.folder import FAILS_SECOND_TIME, GOOD, Folder
from tests.operating.live import READY, daemons, end_all, type_in, until, working_in


@pytest.fixture
def suite(folder: Folder) -> Iterator[Folder]:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    yield folder
    end_all(folder.path)


def nothing_is_left(folder: Folder) -> None:
    """Wait until no process works in the folder, and check that run/ holds scoreboards only."""
    until(lambda: not working_in(folder.path), "the end of every process")
    run = folder.path / "run"
    assert not run.exists() or [path for path in run.iterdir() if path.suffix != ".metrics"] == []


def test_a_port_that_is_taken(suite: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = daemons(suite.path, "run", "launcelot", "--detach", "--port", str(port))
    assert (ended.returncode, ended.stdout) == (111, "")
    assert ended.stderr.startswith(f"launcelot: tcp://127.0.0.1:{port}: address already in use")
    assert ended.stderr.count("\n") == 1
    nothing_is_left(suite)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_wrong_configuration(suite: Folder, processes: str) -> None:
    ended = daemons(
        suite.path, "run", "launcelot", "--detach", "--processes", processes, "--set", "daemon.service=nosuch"
    )
    assert (ended.returncode, ended.stdout) == (100, "")
    assert ended.stderr.startswith("launcelot: --set [daemon] service = nosuch: there is no module daemons.nosuch")
    nothing_is_left(suite)


def test_a_bug_in_the_module(suite: Folder) -> None:
    suite.module("angry", "raise RuntimeError('on purpose')")
    suite.write("angry", "[daemon]\nservice = angry:Angry\nport = 0\n")
    ended = daemons(suite.path, "run", "angry", "--detach")
    assert ended.returncode == 100
    assert ended.stderr.endswith("angry.py line 1: RuntimeError: on purpose\n")
    nothing_is_left(suite)


def test_pid_file_that_cannot_be_written(suite: Folder) -> None:
    """RLIMIT_FSIZE of setrlimit(2) refuses as a full disk does."""
    ended = type_in(suite.path, "bash", "-c", "ulimit -f 0; daemons run launcelot --detach 2>&1 | cat")
    assert "launcelot: file too large\n" in ended.stdout
    assert ended.stdout.count("\n") == 1
    until(lambda: not working_in(suite.path), "the end of every process")


@pytest.mark.parametrize("options", [("--run", "conf/launcelot.ini"), ("--run", "/proc/nowhere")])
def test_a_run_folder_that_cannot_be(suite: Folder, options: tuple[str, ...]) -> None:
    ended = daemons(suite.path, "run", "launcelot", "--detach", *options)
    assert (ended.returncode, ended.stdout) == (111, "")
    assert ended.stderr.startswith("launcelot: ")
    assert ended.stderr.count("\n") == 1
    nothing_is_left(suite)


def test_a_logs_folder_that_cannot_be(suite: Folder) -> None:
    (suite.path / "logs").touch()
    ended = daemons(suite.path, "run", "launcelot", "--detach")
    assert ended.returncode == 111
    assert ended.stderr.count("\n") == 1
    nothing_is_left(suite)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_failure_after_detach_is_in_the_log(suite: Folder, processes: str) -> None:
    """The service can be made once, to be tried before the daemon leaves, and not a second time."""
    suite.module("late", FAILS_SECOND_TIME)
    suite.write("late", "[daemon]\nservice = late:Late\nport = 0\n")
    ended = daemons(suite.path, "run", "late", "--detach", "--processes", processes)
    log = suite.path / "logs" / "late.detached.log"
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"late: did not start; see {log}\n"
    nothing_is_left(suite)
    assert re.search(r"^\S+ \S+ ERROR .* late: .*late\.py line \d+: RuntimeError: the second time", log.read_text())


#: A logging handler that stops the process in which it is made, once that has detached.
STOPS = """
import os
import signal

from daemons.operating.logging import logs

SESSION = os.getsid(0)


class Output(logs.Output):
    def __init__(self):
        super().__init__()
        if os.getsid(0) != SESSION:
            os.kill(os.getpid(), signal.SIGTERM)
"""


def test_sigterm_while_a_detached_daemon_starts_takes_effect_when_it_is_ready(
    suite: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.module("stops", STOPS)
    monkeypatch.setenv("PYTHONPATH", str(suite.path))
    shipped = (Path(__file__).resolve().parents[2] / "conf" / "logging.ini").read_text("utf-8")
    text = shipped.replace("daemons.operating.logging.logs.Output", "stops.Output")
    (suite.conf / "logging.ini").write_text(text, "utf-8")
    ended = daemons(suite.path, "run", "launcelot", "--detach")
    assert ended.returncode == 0, ended.stderr
    assert READY.fullmatch(ended.stderr.rstrip("\n"))
    until(lambda: not list((suite.path / "run").glob("*.pid")), "the end of the daemon")
    log = (suite.path / "logs" / "launcelot.detached.log").read_text()
    assert "stopping: draining 0 connections" in log
    assert "ERROR" not in log
