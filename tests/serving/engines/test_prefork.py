"""Several workers on one port: they are replaced, they never outlive their master, nothing else is disturbed."""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from daemons.serving import signals
from daemons.serving.engines.prefork import Prefork
from daemons.serving.engines.system import System
from daemons.serving.listening.address import Address
from daemons.serving.listening.listen import ListenError, listen
from tests.serving.peers import ask, children_of, connect, converse, ended, eventually, hear, is_gone
from tests.serving.running import Process

Launch = Callable[..., Process]
PROCESS = "tests.serving.services:Process"
ROOT = Path(__file__).resolve().parents[3]

each_engine = pytest.mark.parametrize("engine", ["one", "threads", "forks"])
one_or_more_levels = pytest.mark.parametrize("engine", ["threads", "forks"])


def worker_of(peer: socket.socket) -> int:
    """The process that serves this peer."""
    peer.sendall(b"pid?\n")
    return int(peer.makefile().readline())


@each_engine
def test_requested_number_of_workers_serve(engine: str, process: Launch) -> None:
    running = process("tests.serving.services:Echo", engine, processes=3)
    assert len(children_of(running.pid)) == 3
    for _ in range(12):
        assert converse(running.address, b"a\n")[0] == b"a\n"


def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(process: Launch) -> None:
    running = process(PROCESS, "threads", processes=3)
    workers = set(children_of(running.pid))
    with ExitStack() as stack:
        served: dict[int, list[socket.socket]] = {}
        while len(served) < 2:
            peer = stack.enter_context(connect(running.address))
            served.setdefault(worker_of(peer), []).append(peer)
        (killed, unlucky), *others = served.items()
        os.kill(killed, signal.SIGKILL)
        for peer in unlucky:
            assert is_gone(peer)
        for pid, peers in others:
            for peer in peers:
                ask(peer, b"pid?\n", b"%d\n" % pid)
        for _ in range(20):
            assert int(converse(running.address, b"pid?\n")[0]) != killed
        assert f"worker {killed} died of signal 9; starting a replacement" in running.log_line("worker")
        eventually(lambda: len(children_of(running.pid)) == 3)
        (new,) = set(children_of(running.pid)) - workers
        eventually(lambda: int(converse(running.address, b"pid?\n")[0]) == new)


@one_or_more_levels
def test_workers_do_not_outlive_a_master_that_is_killed_and_the_port_is_free(engine: str, process: Launch) -> None:
    running = process("tests.serving.services:Echo", engine, processes=3)
    workers = children_of(running.pid)
    with connect(running.address) as idle, connect(running.address) as busy:
        ask(idle, b"a\n", b"a\n")
        ask(busy, b"a\nha", b"a\n")
        running.signal(signal.SIGKILL)
        ended(workers)
        assert is_gone(idle)
        assert is_gone(busy)
    assert running.wait() == -signal.SIGKILL
    with socket.create_server(running.address):
        pass


@each_engine
def test_all_workers_drain_on_sigterm(engine: str, process: Launch) -> None:
    running = process("tests.serving.services:Echo", engine, processes=3)
    with ExitStack() as stack:
        # As many as there are workers: more would wait for a place under `one`.
        peers = [stack.enter_context(connect(running.address)) for _ in range(3)]
        for peer in peers:
            ask(peer, b"a\nha", b"a\n")
        running.signal()
        for peer in peers:
            ask(peer, b"lf\n", b"half\n")
            assert is_gone(peer)
    assert running.wait() == 0
    assert running.all_said()[0].count(" drained messages=2 ") == 3


@one_or_more_levels
def test_all_workers_end_at_once_on_a_second_sigterm(engine: str, process: Launch) -> None:
    running = process("tests.serving.services:Lost", engine, "limits.drain_timeout=1h", processes=2)
    with connect(running.address) as peer:
        peer.sendall(b"a\n")
        running.log_line("asked")
        running.signal()
        running.log_line("stopping: draining 1 connections")
        running.insist()
        assert is_gone(peer)
    assert running.wait() == 0


def test_a_worker_that_is_stopped_does_not_keep_the_others_from_ending(process: Launch) -> None:
    running = process("tests.serving.services:Echo", "threads", "limits.drain_timeout=100ms", processes=2)
    stopped = children_of(running.pid)[0]
    os.kill(stopped, signal.SIGSTOP)
    running.signal()
    assert running.wait() == 0
    assert f"worker {stopped} did not end in time and is killed" in running.all_said()[0]


def test_daemon_ends_with_the_exit_code_of_a_worker_that_cannot_start(tmp_path: Path) -> None:
    running = Process(tmp_path, "tests.serving.services:Broken", "threads", processes=3)
    try:
        code = running.wait()
        log, errors = running.all_said()
        assert code == 100, (log, errors)
        assert set(errors.splitlines()) == {
            "knight: conf/knight.ini [daemon] service = tests.serving.services:Broken: it is broken"
        }
    finally:
        running.kill()


def test_worker_whose_pipe_and_sigchld_report_its_end_together_is_reaped_once() -> None:
    prefork = Prefork(lambda ready, parent: 7, 1, 1.0)
    try:
        prefork.table.begin(0.0)
        prefork._act()
        (worker,) = prefork.table.workers.values()
        (report,) = prefork._reports
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        prefork._reap()
        prefork._receive_report(report)
        assert (prefork.table.workers, prefork.table.code) == ({}, 7)
    finally:
        prefork.close()


class FailingSystem(System):
    """A system in which one function fails once."""

    def fail(self, name: str, error: int) -> None:
        def failing(*arguments: object) -> NoReturn:
            delattr(self, name)
            raise OSError(error, os.strerror(error))

        setattr(self, name, failing)


class FullSelector(selectors.DefaultSelector):
    """A selector that polls no pipe."""

    def register(self, source: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if isinstance(source, int):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # max_user_watches, epoll_ctl(2)
        return super().register(source, events, data)


@pytest.mark.parametrize(
    ("name", "error"), [("fork", errno.EAGAIN), ("fork", errno.ENOMEM), ("pipe", errno.EMFILE), ("poll", errno.ENOSPC)]
)
def test_failed_start_leaves_no_descriptor_and_no_process_and_is_repeated(name: str, error: int) -> None:
    system = FailingSystem()
    if name == "poll":
        system.make_selector = FullSelector  # type: ignore[method-assign]
    prefork = Prefork(lambda ready, parent: 7, 1, 1.0, system=system)
    try:
        before, children = os.listdir("/proc/self/fd"), children_of(os.getpid())
        system.fail(name, error)
        prefork.table.begin(0.0)
        prefork._act()
        assert os.listdir("/proc/self/fd") == before
        assert (prefork.table.workers, prefork.table.ended) == ({}, False)
        assert children_of(os.getpid()) == children
    finally:
        prefork.close()


def test_exception_in_a_callback_neither_ends_the_parent_nor_its_workers() -> None:
    """An exception that reached the loop would kill all workers."""
    log = SCRIPT.format(callback="raise RuntimeError('on purpose')")
    done = subprocess.run(
        [sys.executable, "-c", log], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("ready\nready\n0\n", 0), done.stderr
    assert done.stderr.count("on purpose") >= 2


SCRIPT = """
import logging, os, signal
from daemons.serving.engines.prefork import Prefork

logging.basicConfig()

def work(ready, parent):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.write(1, b"ready\\n")
    ready()
    while True:
        signal.pause()

def callback(*_):
    {callback}

prefork = Prefork(work, 2, 5.0)
prefork.on_tick.append(callback)
prefork.on_hangup = callback
prefork.on_signal = lambda number: os.kill(os.getpid(), signal.SIGTERM)

def announce():
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGUSR2)

print(prefork.run(announce))
"""


def test_workers_are_killed_and_reaped_after_an_exception() -> None:
    def work(ready: Callable[[], None], parent: int) -> int:
        ready()
        signal.pause()
        return 0

    def announce() -> None:
        raise RuntimeError("on purpose")

    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    children = children_of(os.getpid())
    try:
        with pytest.raises(RuntimeError, match="on purpose"):
            Prefork(work, 2, 1.0).run(announce)
        assert children_of(os.getpid()) == children
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def test_a_connection_in_the_queue_of_a_worker_that_is_killed_is_served_by_another(process: Launch) -> None:
    running = process("tests.serving.services:Echo", "one", processes=2)
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(running.address)) for _ in range(2)]
        for peer in peers:
            ask(peer, b"a\n", b"a\n")
        waiting = stack.enter_context(connect(running.address))
        waiting.sendall(b"b\n")
        os.kill(children_of(running.pid)[0], signal.SIGKILL)
        ask(waiting, b"", b"b\n")


@pytest.mark.parametrize("engine", ["one", "threads", "forks", "pool", "loop"])
def test_orphaned_workers_accept_until_the_next_daemon_has_bound_the_port_beside_them(
    engine: str, process: Launch
) -> None:
    running = process("tests.serving.services:Echo", engine, processes=2)
    workers = children_of(running.pid)
    running.signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    running.log_line("has ended; stopping")
    (beside,) = listen(Address("tcp", host=running.address[0], port=running.address[1]), 100, beside_orphans=True)
    with beside:
        with ExitStack() as stack:
            # The kernel divides connections among both; none is refused, and none is lost when the workers leave.
            peers = [stack.enter_context(connect(running.address)) for _ in range(20)]
            for peer in peers:
                peer.sendall(b"a\n")
            ended(workers)
            waiting = 0
            while accepted := accept(beside):
                stack.enter_context(accepted)
                waiting += 1
            answered = sum(bool(select.select([peer], [], [], 0)[0] and peer.recv(10) == b"a\n") for peer in peers)
            # Under `one` those in the queue behind the first wait in vain, since that has not left.
            assert answered + waiting == 20 or (engine == "one" and answered > 0)
        with connect(running.address) as peer, accept(beside) or peer as server:
            peer.sendall(b"a\n")
            hear(server, b"a\n")


def test_another_daemon_cannot_bind_the_port_of_a_running_one(process: Launch) -> None:
    running = process("tests.serving.services:Echo", "threads", processes=2)
    with pytest.raises(ListenError, match="address already in use"):
        listen(Address("tcp", host=running.address[0], port=running.address[1]), 100, beside_orphans=True)


def accept(listener: socket.socket) -> socket.socket | None:
    """A connection that waits; None if there is none."""
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None
