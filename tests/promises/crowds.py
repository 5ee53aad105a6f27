"""Crowds of connections, honest clients among them, and the memory that a daemon uses meanwhile."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.operating.live import GRAIL, QUEST, Live
from tests.serving.peers import DEADLINE, connect, eventually, hear, reset

MIB = 1024 * 1024


def address_of(daemon: Live) -> tuple[str, int]:
    """Return the address of a daemon started by `Live`."""
    return ("127.0.0.1", daemon.port)


def settings(**limits: object) -> list[str]:
    """Return command-line arguments for limits."""
    return [word for name, value in limits.items() for word in ("--set", f"limits.{name}={value}")]


# --- clients ---------------------------------------------------------------------------------------


def honest(address: Any, count: int = 1000, each: int = 1, open_: Callable[[Any], socket.socket] = connect) -> int:
    """Make `count` requests, `each` per connection, and return the number of correct replies."""
    answered = 0
    for _ in range(count // each):
        with open_(address) as peer:
            for _ in range(each):
                peer.sendall(QUEST)
                hear(peer, GRAIL)
                answered += 1
    return answered


class Crowd:
    """Many connections that send `words` and then nothing.

    They are opened in batches: after each, `between` is called, which should return when the batch has been accepted,
    since the queue of a listener is shorter than a crowd."""

    COLUMN = 500

    def __init__(
        self,
        address: Any,
        count: int,
        words: bytes = b"",
        *,
        host: str = "127.0.0.1",
        between: Callable[[], object] = lambda: None,
    ) -> None:
        self.peers: list[socket.socket] = []
        try:
            for number in range(1, count + 1):
                peer = socket.socket()
                self.peers.append(peer)
                peer.settimeout(DEADLINE)
                if host != "127.0.0.1":
                    peer.bind((host, 0))
                peer.connect(address)
                if words:
                    with suppress(ConnectionError):  # refused by a guard
                        peer.sendall(words)
                if number % self.COLUMN == 0:
                    between()
        except BaseException:
            self.leave()
            raise

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Reset all connections: ten thousand ports would otherwise be in TIME_WAIT for a minute."""
        while self.peers:
            reset(self.peers.pop())

    @property
    def turned_away(self) -> int:
        """Return the number of connections closed by the daemon."""
        poll = select.poll()
        for peer in self.peers:
            poll.register(peer, select.POLLIN)
        return len(poll.poll(0))


class Load:
    """Clients in several threads, each sending one question per connection while the context is active.  The results
    are counted: ``answered``, ``refused``, or ``lost`` for an incomplete reply."""

    def __init__(
        self,
        address: Any,
        question: bytes = QUEST,
        is_answer: Callable[[bytes], bool] = GRAIL.__eq__,
        dress: Callable[[socket.socket], socket.socket] = lambda peer: peer,
    ) -> None:
        self._address = address
        self._question = question
        self._is_answer = is_answer
        self._dress = dress
        self._enough = threading.Event()
        self._counts = [Counter[str]() for _ in range(2)]
        #: The last reply.
        self.last = b""
        self._threads = [threading.Thread(target=self._visit, args=(counts,)) for counts in self._counts]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    @property
    def counts(self) -> Counter[str]:
        return sum(self._counts, Counter())

    def until_answered(self, more: int) -> None:
        """Wait until `more` further questions have been answered."""
        before = self.counts["answered"]
        eventually(lambda: self.counts["answered"] >= before + more)

    def _visit(self, counts: Counter[str]) -> None:
        while not self._enough.is_set():
            counts[self._one()] += 1

    def _one(self) -> str:
        with ExitStack() as stack:
            try:
                peer = stack.enter_context(connect(self._address))
            except ConnectionRefusedError:
                return "refused"
            heard = b""
            try:
                peer = stack.enter_context(self._dress(peer))
                peer.sendall(self._question)
                while not self._is_answer(heard):
                    if not (data := peer.recv(4096)):
                        return f"lost: {heard!r}"
                    heard += data
            except OSError as error:
                return f"lost: {error!r}"
            self.last = heard
            return "answered"


# --- resources -------------------------------------------------------------------------------------


@contextmanager
def growth(pid: int, most: int) -> Iterator[None]:
    """Assert that the resident set of a process peaks at less than `most` bytes above its size on entry.

    The peak is the kernel's own (proc_pid_clear_refs(5), "5: reset the peak resident set size"), and is lost with the
    process: a block in which the process ends fails the test.  A child of forks lives as long as its connection, which
    must stay open until after the block.

    Raises:
        AssertionError: The process grew by `most` bytes or more, or has ended.
    """
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _sizes(pid)["VmRSS"]
    yield
    try:
        grown = _sizes(pid)["VmHWM"] - before
    except KeyError:
        raise AssertionError(f"process {pid} ended before its peak could be read: hold its connection open") from None
    assert grown < most, f"{grown / MIB:.1f} MiB more"


def _sizes(pid: int) -> dict[str, int]:
    """Return the sizes in /proc/PID/status, in bytes; none of memory if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {
        key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }


def threads_of(pid: int) -> int:
    """Return the number of threads of a process."""
    return len(os.listdir(f"/proc/{pid}/task"))
