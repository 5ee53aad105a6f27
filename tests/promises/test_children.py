"""Child processes: each is reaped by its pid, never with ``waitpid(-1)``; accepting never waits for a child; workers
are forked before any thread is started."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import daemons
from daemons.serving.engines import ENGINES
from tests.operating.folder import GOOD, Folder
from tests.operating.live import Live
from tests.promises.crowds import address_of, honest, settings, threads_of
from tests.serving.peers import ask, children_of, connect, eventually
from tests.serving.running import ROOT

#: A child of another library that has ended and is to be reaped by the code that started it.
FOREIGN = """
import os, signal, subprocess, sys, threading
from daemons.serving.engines import stream_server
from daemons.serving.engines.prefork import Prefork
from daemons.serving.pump import Pump
from tests.serving.peers import converse, eventually
from tests.serving.services import Echo

foreign = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(7)"])
os.waitid(os.P_PID, foreign.pid, os.WEXITED | os.WNOWAIT)
"""

FORKS = """
with stream_server("forks")(("127.0.0.1", 0), Pump.for_service(Echo())) as server:
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    for _ in range(50):
        assert converse(server.server_address, b"a\\n")[0] == b"a\\n"
    eventually(lambda: server.active == 0)
    server.shutdown()
    serving.join()
"""

PREFORK = """
def work(ready, parent):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # held back around the fork
    ready()
    while True:
        signal.pause()

def announce():
    os.kill(next(iter(prefork.table.workers)), signal.SIGKILL)

prefork = Prefork(work, 2, 5.0)
prefork.on_restart = lambda: os.kill(os.getpid(), signal.SIGTERM)
assert prefork.run(announce) == 0
"""

BURIED = """
print(foreign.wait())
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child is left")
"""


@pytest.mark.parametrize("script", [FORKS, PREFORK], ids=["forks", "prefork"])
def test_child_of_other_code_is_not_reaped(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN + script + BURIED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("7\nno child is left\n", 0), done.stderr


def test_no_module_waits_for_any_child() -> None:
    """No ``os.wait()``, ``waitpid(-1)``, ``waitpid(0)``, ``waitid(P_ALL)`` or similar call in the source."""
    for path in Path(daemons.__file__).parent.rglob("*.py"):
        if path.match("operating/init.py"):
            continue  # process 1 of a container has to reap every orphan; the daemon is its child
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name, first = node.func.attr, ast.unparse(node.args[0]) if node.args else ""
                assert name not in ("wait3", "wait4", "waitid"), f"{path}:{node.lineno}"
                assert ast.unparse(node.func) != "os.wait", f"{path}:{node.lineno}"
                assert name != "waitpid" or first.isidentifier() or first.endswith(".pid"), f"{path}:{node.lineno}"


def test_accepting_waits_for_no_child_that_is_stopped(folder: Folder) -> None:
    """With the processes of twenty connections stopped, 100 of 100 other clients are answered."""
    folder.write("launcelot", GOOD.replace("1060", "0"))
    with Live(folder.path, "launcelot", "--engine", "forks", *settings(drain_timeout="100ms")) as daemon:
        address, peers = address_of(daemon), []
        try:
            for _ in range(20):
                peers.append(connect(address))
                ask(peers[-1], b"What is your favorite color?", b"Blue.")
            stopped = children_of(daemon.process.pid)
            assert len(stopped) == 20
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            assert honest(address, 100) == 100
            eventually(lambda: set(children_of(daemon.process.pid)) == set(stopped))
            for pid in stopped:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: children_of(daemon.process.pid) == [])
        finally:
            for peer in peers:
                peer.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_parent_of_several_workers_has_no_thread(folder: Folder, engine: str) -> None:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    with Live(folder.path, "launcelot", "--engine", engine, "--processes", "2") as daemon:
        assert honest(address_of(daemon), 10) == 10
        assert threads_of(daemon.process.pid) == 1
        assert len(children_of(daemon.process.pid)) == 2
        assert daemon.stop() == 0
