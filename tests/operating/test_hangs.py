"""Hanging imports at SIGHUP, and workers that never end, do not block the daemon."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemons.operating import preflight
from daemons.operating.preflight import ChildError, Trial, try_in_child
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder
from tests.operating.live import Live, alive, children, talk, until
from tests.operating.test_renewal import hang_up, renewed

#: Hangs when it is imported, while there is a file of that name.
IMPORT = """
    import os, signal, time
    import daemons

    if os.path.exists("hang"):
        open("hanging", "w").write(str(os.getpid()))
        {hang}

    class Service(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, message):
            return b"."
"""

#: Never answers.
LOST = """
    import threading
    import daemons

    class Service(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, message):
            if message == b"hang?":
                while True:
                    pass
            return b"."
"""

INI = "[daemon]\nservice = hanging:Service\nport = 0\nprocesses = 2\n[limits]\ndrain_timeout = 100ms\n"


@pytest.fixture
def importing(folder: Folder, request: pytest.FixtureRequest) -> Folder:
    folder.module("hanging", IMPORT.format(hang=request.param))
    folder.write("x", INI)
    return folder


hanging_somehow = pytest.mark.parametrize(
    "importing", ["signal.pause()", "while True: pass", "os.close(os.open('fifo', os.O_RDONLY))"], indirect=True
)


def hang(folder: Path) -> int:
    """Return the pid of the process whose import hangs."""
    until((folder / "hanging").exists, "the import")
    return int(until((folder / "hanging").read_text, "its pid"))


@hanging_somehow
def test_an_import_that_hangs_at_sighup_stops_neither_the_service_nor_the_end(importing: Folder) -> None:
    os.mkfifo(importing.path / "fifo")
    with Live(importing.path, "x") as daemon:
        (importing.path / "hang").touch()
        daemon.process.send_signal(signal.SIGHUP)
        hung = hang(importing.path)
        assert talk(daemon.port, b"?") == b"."
        daemon.process.send_signal(signal.SIGHUP)  # while it hangs
        assert daemon.stop() == 0
        until(lambda: not alive(hung), "the end of the trial")
        assert "reloaded" not in daemon.out


@hanging_somehow
def test_a_trial_whose_parent_is_killed_ends_and_keeps_no_port(importing: Folder) -> None:
    os.mkfifo(importing.path / "fifo")
    with Live(importing.path, "x") as daemon:
        (importing.path / "hang").touch()
        daemon.process.send_signal(signal.SIGHUP)
        hung = hang(importing.path)
        workers = children(daemon.process.pid)
        daemon.stop(signal.SIGKILL)
        until(lambda: not any(map(alive, [*workers, hung])), "the end of them all")
        with socket.create_server(("127.0.0.1", daemon.port)):
            pass


def test_a_sighup_that_comes_during_a_trial_is_not_forgotten(folder: Folder) -> None:
    folder.module("hanging", IMPORT.format(hang="os.close(os.open('gate', os.O_RDONLY))"))
    folder.write("x", INI)
    with Live(folder.path, "x") as daemon:
        os.mkfifo(folder.path / "gate")
        (folder.path / "hang").touch()
        daemon.process.send_signal(signal.SIGHUP)
        hang(folder.path)
        daemon.process.send_signal(signal.SIGHUP)
        (folder.path / "hang").unlink()
        os.close(os.open(folder.path / "gate", os.O_WRONLY))
        until(lambda: daemon.out.count("reloaded; ") == 2, "two reloads")


def test_workers_that_hang_are_killed_when_they_have_been_replaced(folder: Folder) -> None:
    folder.module("hanging", LOST)
    folder.write("x", INI)
    with Live(folder.path, "x") as daemon:
        for _ in range(5):
            old = set(children(daemon.process.pid))
            with socket.create_connection(("127.0.0.1", daemon.port)) as peer:
                peer.sendall(b"hang?")
                hang_up(daemon)
                until(lambda: renewed(daemon, old), "two new workers, and no other process")  # noqa: B023
        assert talk(daemon.port, b"?") == b"."


def test_workers_that_hang_are_replaced_without_a_signal(folder: Folder) -> None:
    folder.module("hanging", LOST)
    folder.write("x", INI)
    with Live(folder.path, "x", "--engine", "loop") as daemon, ExitStack() as stack:
        old = set(children(daemon.process.pid))
        for count in (1, 2):  # the worker that hangs does not accept, so the other one accepts the second connection
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port))).sendall(b"hang?")
            until(lambda: daemon.out.count(" stalled for ") == count, "the stall")  # noqa: B023
        until(lambda: renewed(daemon, old), "two new workers", seconds=60.0)
        assert daemon.out.count(" has made no turn for 10 s and is replaced") == 2
        assert talk(daemon.port, b"?") == b"."
        assert daemon.stop() == 0


def test_first_import_that_hangs_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "FIRST_START_LIMIT", 0.1)
    before = children(os.getpid())
    with pytest.raises(ChildError, match=r"^the service was not imported within 0\.1 s$"):
        try_in_child(signal.pause)
    assert children(os.getpid()) == before


# --- the trial ---------------------------------------------------------------------------------------


def test_a_trial_beyond_its_limit_is_overdue_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "LIMIT", 0.0)
    tried = Trial(signal.pause)
    tried.end()
    assert tried.overdue
    until(tried.reap, "its end")
    with pytest.raises(ChildError, match=r"^the service was not imported within 0 s$"):
        tried.check()


def test_a_trial_ends_with_its_report_though_another_process_has_the_pipe() -> None:
    left: list[int] = []
    ours, theirs = os.pipe()

    def fork() -> None:
        if (pid := os.fork()) == 0:
            signal.pause()
            os._exit(0)
        os.write(theirs, f"{pid}\n".encode())

    try:
        try_in_child(fork)
        left.append(int(os.read(ours, 100)))
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        os.close(ours)
        os.close(theirs)


def complain() -> None:
    raise ConfigurationError(["one", "two"])


def fail() -> None:
    raise RuntimeError("on purpose")


def test_trial_reports_complaints_bugs_and_a_silent_end(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError) as complained:
        try_in_child(complain)
    assert complained.value.complaints == ["one", "two"]
    with pytest.raises(ChildError, match=r"^RuntimeError: on purpose$"):
        try_in_child(fail)
    with pytest.raises(ChildError, match="without a result"):
        try_in_child(lambda: os._exit(3))
    assert "on purpose" in capfd.readouterr().err


def test_a_daemon_that_is_stopped_while_it_tries_its_service_leaves_no_process(folder: Folder) -> None:
    """With several processes the first trial is a child too; here it runs C code, where no signal handler runs."""
    folder.module(
        "hanging", IMPORT.format(hang="signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM}); time.sleep(60)")
    )
    folder.write("x", INI)
    (folder.path / "hang").touch()
    with Live(folder.path, "x", ready=False) as daemon:
        hung = hang(folder.path)
        assert daemon.stop() == 0
        until(lambda: not alive(hung), "the end of the trial", seconds=0.5)


@hanging_somehow
def test_a_trial_under_way_at_the_end_is_reaped(importing: Folder) -> None:
    os.mkfifo(importing.path / "fifo")
    with Live(importing.path, "x") as daemon:
        (importing.path / "hang").touch()
        daemon.process.send_signal(signal.SIGHUP)
        hung = hang(importing.path)
        assert daemon.stop() == 0
        assert not Path(f"/proc/{hung}").exists()


#: What fails so badly that the failure cannot be reported either: no pipe, no standard error.
UNREPORTABLE = """
    import os
    import daemons

    if os.path.exists("fail"):
        open("failing", "w").close()
        os.closerange(3, 1000)
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
        {fail}

    class Service(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, message):
            return b"."
"""


@pytest.mark.parametrize("fail", ["pass", "raise KeyboardInterrupt"])
def test_a_trial_that_cannot_report_its_failure_leaves_the_workers_alone(folder: Folder, fail: str) -> None:
    """The child must not go on as a second parent, and kill the workers."""
    folder.module("hanging", UNREPORTABLE.format(fail=fail))
    folder.write("x", INI)
    with Live(folder.path, "x") as daemon:
        before = children(daemon.process.pid)
        (folder.path / "fail").touch()
        daemon.process.send_signal(signal.SIGHUP)
        until((folder.path / "failing").exists, "the import")
        until(lambda: f"[{daemon.process.pid}] not reloaded" in daemon.out, "the end of the trial")
        time.sleep(0.2)
        assert children(daemon.process.pid) == before
        assert talk(daemon.port, b"?") == b"."
        assert daemon.stop() == 0
