"""A daemon as process 1 of a PID namespace, as in a container without an init."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.operating.folder import Folder
from tests.operating.live import BIN, READY, children, environment, talk, until

#: unshare(1): the command is process 1 of its namespace; as an ordinary user, in a user namespace too.
UNSHARE = [
    "unshare",
    *(() if os.geteuid() == 0 else ("--user", "--map-current-user")),
    *("--pid", "--fork", "--mount-proc", "--kill-child"),
]

#: A service that leaves two orphans with each message, or waits for its own child on ``status?``.
LEAVING = """
    import subprocess
    import daemons

    class Leaving(daemons.Service):
        framing = daemons.Until(b"?", limit=100)
        blocks = True

        def respond(self, message):
            if message == b"status?":
                return b"%d" % subprocess.run(["sh", "-c", "exit 7"], check=False).returncode
            subprocess.run(["sh", "-c", "sleep 0.01 & sleep 0.01 &"], check=True)
            return b"left two"
"""


@pytest.fixture
def suite(folder: Folder) -> Folder:
    if (
        shutil.which("unshare") is None
        or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no PID namespace can be made here")
    folder.module("leaving", LEAVING)
    folder.write("leaving", "[daemon]\nservice = leaving:Leaving\nport = 0\n")
    return folder


@contextmanager
def as_process_1(suite: Folder, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Run ``daemons run leaving`` as process 1; yield unshare(1), the pid of process 1 outside, and the port."""
    err = suite.path / "err"
    with err.open("wb") as file:
        command = [*UNSHARE, str(BIN / "daemons"), "run", "leaving", *options]
        process = subprocess.Popen(command, cwd=suite.path, env=environment(), stdout=file, stderr=file)
    try:
        found = until(lambda: READY.search(err.read_text()), "the ready line")
        assert found
        (init,) = children(process.pid)
        assert found["pid"] != "1"
        yield process, init, int(found["addresses"].rpartition(":")[2])
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("engine", "processes"), [("threads", "1"), ("pool", "2"), ("forks", "1")])
def test_orphans_are_reaped_and_no_exit_status_is_taken_away(suite: Folder, engine: str, processes: str) -> None:
    with as_process_1(suite, "--engine", engine, "--processes", processes) as (_, init, port):
        (daemon,) = children(init)
        for _ in range(5):
            assert talk(port, b"go?") == b"left two"
            assert talk(port, b"status?") == b"7"
        until(lambda: set(Path(f"/proc/{init}/task/{init}/children").read_text().split()) == {str(daemon)}, "no orphan")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_daemon_and_its_exit_code_the_starter(suite: Folder, number: signal.Signals) -> None:
    with as_process_1(suite) as (process, init, port):
        assert talk(port, b"status?") == b"7"
        os.kill(init, signal.SIGUSR2)
        until(lambda: "SIGUSR2 ignored" in (suite.path / "err").read_text(), "the line of the daemon")
        os.kill(init, number)
        assert process.wait(20) == 0
        assert re.search(r"stopping: ", (suite.path / "err").read_text())


def test_exit_code_of_a_daemon_that_is_killed_says_so(suite: Folder) -> None:
    with as_process_1(suite) as (process, init, _):
        (daemon,) = children(init)
        os.kill(daemon, signal.SIGKILL)
        assert process.wait(20) == 128 + signal.SIGKILL


def test_daemon_that_cannot_start_ends_with_its_code(suite: Folder) -> None:
    ended = subprocess.run(
        [*UNSHARE, str(BIN / "daemons"), "run", "leaving", "--set", "daemon.service=nosuch"],
        cwd=suite.path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 100
    assert ended.stderr.count(b"\n") == 1
