"""Services that block until released, and the state of a running pool."""

from __future__ import annotations

import threading
from collections.abc import Callable

from daemons import Peer, Service, Talk
from daemons.serving.engines import stream_server
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.server import Server
from tests.serving.peers import DEADLINE, ask, connect, eventually
from tests.serving.running import Within
from tests.serving.services import LINE, Echo


class Moody(Echo):
    """Echo each line with the name of its thread; for ``wait``, block until released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.answering: list[str] = []

    def respond(self, line: bytes) -> bytes:
        if line.startswith(b"wait"):
            self.asked.release()
            self.go_on.wait()
        self.answering.append(threading.current_thread().name)
        return line


class Gated(Echo):
    """Echo each line; ``a`` and ``b`` block until their event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.go_on = {b"a\n": threading.Event(), b"b\n": threading.Event()}

    def respond(self, line: bytes) -> bytes:
        if line in self.go_on:
            self.asked.release()
            assert self.go_on[line].wait(DEADLINE)
        return line


class Talker(Service):
    """Greet, and echo each line.  ``wait`` blocks; after ``hold``, the end of the talk blocks."""

    framing = LINE

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()

    def talk(self, peer: Peer) -> Talk:
        line = b""
        try:
            line = yield b"hello\n"
            while True:
                if line == b"wait\n":
                    self.block()
                line = yield line
        finally:
            if line == b"hold\n":
                self.block()

    def block(self) -> None:
        self.asked.release()
        assert self.go_on.wait(DEADLINE)


class BlockingTalker(Talker):
    """The same with ``blocks = True``."""

    blocks = True


class SilentTalker(BlockingTalker):
    """A talk without a greeting, which blocks at its start."""

    greets = False

    def talk(self, peer: Peer) -> Talk:
        self.block()
        line = yield b""
        while True:
            line = yield line


class Blocking(Moody):
    """The same with ``blocks = True``."""

    blocks = True


Start = Callable[..., Within]


def poller_of(running: Within) -> PoolPoller:
    eventually(lambda: running.server.daemon)
    assert running.server.daemon is not None
    poller = running.server.daemon.poller
    assert isinstance(poller, PoolPoller)
    return poller


def answered_by(running: Within, service: Moody, times: int = 10) -> set[str]:
    """Ask so many times; which threads have answered."""
    service.answering.clear()
    with connect(running.address) as peer:
        for _ in range(times):
            ask(peer, b"a\n", b"a\n")
    return set(service.answering)


def expect_on_the_spot(running: Within, service: Moody) -> None:
    """Wait until a worker leads, and see that it answers too: it alone."""
    poller = poller_of(running)
    eventually(lambda: not poller.offloading and poller.lease is not None)
    # On a busy machine an answer may seem to take long that did not, and the lead pass on once more.
    eventually(lambda: len(answered_by(running, service)) == 1 and not poller.offloading)


def pool_of(threads: int) -> type[Server]:
    """Return the class of a pool with so many threads."""
    return type("SmallPool", (stream_server("pool"),), {"threads": threads})
