"""Signals during the start of a daemon: a stop signal ends it, and no other signal kills it or is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import camelot_start
from tests.operating.folder import Folder
from tests.operating.live import BIN, READY, environment, until

#: Waits at a gate when it is imported.
GATED = """
    import os
    import daemons

    open("importing", "w").close()
    os.close(os.open("gate", os.O_RDONLY))

    class Gated(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, message):
            return b"."
"""

one_or_several = pytest.mark.parametrize("processes", ["1", "2"])
each_way = pytest.mark.parametrize("command", [[str(BIN / "daemons")], [sys.executable, "-m", "daemons"]])


@pytest.fixture
def gated(folder: Folder) -> Folder:
    folder.module("gated", GATED)
    folder.write("x", "[daemon]\nservice = gated:Gated\nport = 0\n")
    os.mkfifo(folder.path / "gate")
    return folder


def start(folder: Path, command: list[str], processes: str) -> subprocess.Popen[str]:
    """A daemon that is importing its service."""
    started = subprocess.Popen(
        [*command, "run", "x", "--processes", processes],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((folder / "importing").exists, "the import")
    return started


@each_way
@one_or_several
def test_a_reload_that_is_asked_for_during_the_start_follows_it(
    gated: Folder, command: list[str], processes: str
) -> None:
    with start(gated.path, command, processes) as daemon:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            daemon.send_signal(number)
        # While the FIFO is open for reading and writing, no process blocks when it opens the FIFO.
        gate = os.open(gated.path / "gate", os.O_RDWR)
        try:
            assert daemon.stderr is not None
            assert daemon.stdout is not None
            assert READY.fullmatch(daemon.stderr.readline().rstrip())
            # Among the lines of the other signals.
            assert any("reloaded; changed: nothing" in line for line in daemon.stdout)
            daemon.terminate()
            daemon.communicate(timeout=20)
            assert daemon.returncode == 0
        finally:
            os.close(gate)
            daemon.kill()


@each_way
@one_or_several
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop_signal_during_the_start_ends_the_daemon_silently(
    gated: Folder, command: list[str], processes: str, number: signal.Signals
) -> None:
    with start(gated.path, command, processes) as daemon:
        try:
            daemon.send_signal(number)
            assert daemon.communicate(timeout=20) == ("", "")
            assert daemon.returncode == 0
        finally:
            daemon.kill()


def test_signals_are_held_before_anything_of_the_suite_is_imported() -> None:
    script = """
import signal, sys, types
import camelot_start
assert not [name for name in sys.modules if name.split(".")[0] == "daemons"]
command = types.ModuleType("command")
command.main = lambda: print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))) or 0
for name in ("daemons", "daemons.operating"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["daemons.cli.command"] = command
sys.argv = ["daemons", *sys.argv[1:]]
sys.exit(camelot_start.main())
"""

    def held(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, timeout=20
        ).stdout

    numbers = sorted((signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM))
    assert held("run", "x").strip() == str(numbers)
    assert held("ask", "x").strip() == held("run", "x", "--detach").strip() == "[]"


def test_unused_signal_that_cannot_be_handled_is_left_out() -> None:
    """Valgrind refuses the topmost real-time signal with EINVAL, as the kernel refuses SIGKILL."""
    script = """
import signal
from daemons.serving import signals
from daemons.serving.waker import Waker
signals.UNUSED += (signal.SIGKILL,)
signals.SIGNALS += (signal.SIGKILL,)
signals.install_startup_handlers()
signals.defer_stop()
signals.install_handlers(Waker())
signals.reset_signals()
signals.ignore_signals()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=20)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_ctrl_c_during_the_imports_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "daemons.cli.command", Interrupted("daemons.cli.command"))
    monkeypatch.setattr("sys.argv", ["daemons", "list"])
    assert camelot_start.main() == 130
