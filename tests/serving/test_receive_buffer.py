"""The receive buffer for datagrams: its size, and the datagrams that the kernel drops because it is full."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemons.operating.metrics.stats import read
from daemons.serving.engines import datagram_server
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.receive_buffer import LARGEST, DropCounter, resize
from tests.operating.folder import Folder
from tests.operating.live import Live, until
from tests.promises.crowds import settings
from tests.serving.peers import children_of
from tests.serving.running import Within
from tests.serving.services import Echo

ECHO = """
    import daemons

    class Echo(daemons.Service):
        framing = daemons.Stream()

        def respond(self, message):
            return message
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        yield made


def size_of(listener: socket.socket) -> int:
    return listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def test_the_setting_is_the_size_of_the_buffer(within: Callable[..., Within]) -> None:
    running = within(datagram_server("loop"), Pump.for_service(Echo()))
    for size in (65_536, 32_768):
        running.server.apply(Limits(receive_buffer=size))
        assert size_of(running.server.socket) == size


def test_a_buffer_smaller_than_asked_for_is_logged(listener: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    resize(listener, 2**31 - 1)
    given = size_of(listener)
    assert caplog.messages == [
        f"receive buffer: 2147483647 bytes requested, {given} granted; "
        "raise it with sysctl net.core.rmem_max=2147483647"
    ]


def test_by_default_the_buffer_does_not_shrink_and_nothing_is_logged(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    before = size_of(listener)
    resize(listener, None)
    assert size_of(listener) >= before
    assert caplog.messages == []


def test_datagrams_dropped_by_the_kernel_are_counted_and_logged(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    resize(listener, 4096)
    listener.setblocking(False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        drops = DropCounter([listener])
        for _ in range(500):
            peer.sendto(b"x", listener.getsockname())
    dropped = drops.take()
    received = 0
    try:
        while listener.recv(10):
            received += 1
    except BlockingIOError:
        pass
    assert dropped == 500 - received > 0
    assert caplog.messages[0].startswith(f"receive buffer: full, {dropped} datagrams dropped by the kernel;")
    assert drops.take() == 0


@pytest.mark.parametrize("processes", [1, 2])
def test_stats_count_each_dropped_datagram_once(tmp_path: Path, processes: int) -> None:
    folder = Folder(tmp_path)
    folder.module("parrot", ECHO)
    folder.write("parrot", "[daemon]\nservice = parrot:Echo\nlisten = udp://127.0.0.1:0\n")
    options = ["--engine", "loop", "--processes", str(processes), *settings(receive_buffer="8KiB")]
    with Live(folder.path, "parrot", *options) as daemon, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(10.0)
        peer.connect(("127.0.0.1", daemon.port))
        peer.send(b"x")
        assert peer.recv(10) == b"x"
        parent = daemon.process.pid
        serving = children_of(parent) if processes > 1 else [parent]
        for pid in serving:
            os.kill(pid, signal.SIGSTOP)
        for _ in range(1000):
            peer.send(b"x")
        for pid in serving:
            os.kill(pid, signal.SIGCONT)
        path = folder.path / "run" / "parrot.metrics"
        until(lambda: (found := read(path)).accepted + found.datagrams_dropped == 1001, "every datagram, or its loss")
        assert read(path).datagrams_dropped > 0
        until(lambda: "datagrams dropped by the kernel" in daemon.out, "a line in the log")


def test_a_size_beyond_an_int_is_the_largest_that_can_be_asked_for(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    resize(listener, 2**50)
    assert f"{LARGEST} bytes requested" in caplog.text
