"""Tests of the leak check."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

from tests.leaks import Snapshot, clear


def test_no_leak_is_no_finding() -> None:
    assert Snapshot.take().leaks() == []


def test_a_thread_left_running_is_found() -> None:
    before = Snapshot.take()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    thread.start()
    assert before.leaks(0) == ["a thread: forgotten"]
    end.set()
    assert before.leaks() == []


def test_an_open_socket_is_found_and_named() -> None:
    before = Snapshot.take()
    with socket.socket() as forgotten:
        (leak,) = before.leaks(0)
        assert leak.startswith(f"a descriptor: {forgotten.fileno()} -> socket:[")


def test_a_descriptor_that_now_is_another_file_is_found() -> None:
    read, write = os.pipe()
    before = Snapshot.take()
    os.dup2(2, read)
    assert [leak.split()[2] for leak in before.leaks(0)] == [str(read)]
    os.close(read)
    os.close(write)


def test_a_child_is_found_living_or_dead_and_cleared_away() -> None:
    before = Snapshot.take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert any(leak.startswith(f"a child process: {child.pid} ") for leak in before.leaks(0))
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert any(leak.startswith(f"a child process: {child.pid} ") for leak in before.leaks(0))
        clear(before)
    assert before.leaks() == []


def test_signals_changed_are_found_and_put_back() -> None:
    before = Snapshot.take()
    with socket.socket() as waker:
        waker.setblocking(False)
        signal.signal(signal.SIGUSR1, print)
        signal.set_wakeup_fd(waker.fileno())
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        kinds = {leak.partition(":")[0] for leak in before.leaks(0)}
        assert kinds >= {"a handler of SIGUSR1", "a wakeup descriptor for signals", "blocked signals"}
        clear(before)
    assert before.leaks(0) == []
