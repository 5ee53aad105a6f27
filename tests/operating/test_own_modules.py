"""Modules that leave threads, change the working folder, or print; and starters that block signals."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from daemons.serving import signals
from tests.operating.folder import Folder
from tests.operating.live import BIN, Live, alive, daemons, environment, talk, until

pytestmark = pytest.mark.timeout(60)

SHOUT = """
from daemons import Service, Until


class Shout(Service):
    framing = Until(b"\\n", limit=1000)

    def respond(self, line):
        print("said", line.decode())
        return line.upper()
"""

THREAD = """
import threading
import time


def work():
    while True:
        time.sleep(1)


threading.Thread(target=work, name="worker of mine").start()
"""

INI = "[daemon]\nservice = {0}:Shout\nport = 0\n[limits]\ndrain_timeout = 1s\n"


@pytest.fixture
def suite(folder: Folder) -> Folder:
    for name, before in (("plain", ""), ("thread", THREAD), ("chdir", "import os\nos.chdir('/')\n")):
        (folder.path / f"{name}.py").write_text(before + SHOUT, "utf-8")
        folder.write(name, INI.format(name))
    return folder


@pytest.mark.parametrize("engine", ["one", "threads", "forks", "pool", "loop"])
def test_daemon_ends_in_time_without_a_thread_that_does_not(suite: Folder, engine: str) -> None:
    with Live(suite.path, "thread", "--engine", engine) as live:
        assert live.stop() == 0
        assert "exiting; threads of the service still run: worker of mine" in live.out


def test_inspections_end_although_a_module_leaves_a_thread_or_the_folder(suite: Folder) -> None:
    checked = daemons(suite.path, "check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "OK: chdir, plain, thread\n", "")
    listed = daemons(suite.path, "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["chdir", "plain", "thread"]
    assert daemons(suite.path, "show", "thread").returncode == 0


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("engine", ["threads", "forks", "pool"])
def test_output_of_a_service_is_in_the_log_at_once(suite: Folder, engine: str, processes: str) -> None:
    with Live(suite.path, "plain", "--engine", engine, "--processes", processes) as live:
        assert talk(live.port, b"hello\n") == b"HELLO\n"
        until(lambda: "said hello" in live.out, "the line printed by the service")


def test_daemon_whose_supervisord_dies_while_it_starts_leaves(suite: Folder) -> None:
    (suite.path / "plain.py").write_text("import time\ntime.sleep(1)\n" + SHOUT, "utf-8")
    script = f"SUPERVISOR_ENABLED=1 '{BIN}/daemons' run plain >log 2>&1 & echo $!; sleep 0.3"
    shell = subprocess.run(
        ["sh", "-c", script], cwd=suite.path, env=environment(), capture_output=True, text=True, timeout=30, check=True
    )
    pid = int(shell.stdout)
    try:
        until(lambda: not alive(pid), "the end of the daemon")
        assert "has ended; stopping" in (suite.path / "log").read_text("utf-8")
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def block_and_ignore_all() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in (*signals.STOPPING, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_signals_blocked_or_ignored_by_the_parent_are_handled(suite: Folder, processes: str) -> None:
    command = [str(BIN / "daemons"), "run", "plain", "--processes", processes]
    with (suite.path / "err").open("wb") as err:
        started = subprocess.Popen(
            command, cwd=suite.path, env=environment(), stdout=err, stderr=err, preexec_fn=block_and_ignore_all
        )
    with started:
        try:
            until(lambda: b"ready" in (suite.path / "err").read_bytes(), "the ready line")
            started.terminate()
            assert started.wait(20) == 0
        finally:
            started.kill()


def test_detached_start_where_children_are_ignored(suite: Folder) -> None:
    command = [str(BIN / "daemons"), "run", "plain", "--detach"]
    started = subprocess.run(
        command, cwd=suite.path, env=environment(), capture_output=True, timeout=30, preexec_fn=block_and_ignore_all
    )
    try:
        assert (started.returncode, started.stderr.count(b"\n")) == (0, 1)
    finally:
        assert daemons(suite.path, "stop", "plain").returncode == 0
