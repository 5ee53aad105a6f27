"""Where what a peer has yet to read is kept, while more is read from it: `Limits.spool`.

A peer that sends all that it has to say before it reads the first answer, and a server that reads no more until
its answers are taken, wait for each other for ever once the buffers between them are full.  Here the server goes
on reading, and keeps the answers: up to a mebibyte in memory, from there on in a file without a name.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import tempfile
from collections.abc import Callable
from typing import IO

from daemons.serving.guards import budget

log = logging.getLogger(__name__)

#: Octets kept in memory; the kernel's own buffers hold a few times as much.
MEMORY = 1024**2

#: Octets handed to the kernel at a time.
PIECE = 64 * 1024

DONTWAIT = socket.MSG_DONTWAIT


class Spool:
    """Octets in the order in which they came, at most `cap` of them.  What is not in memory is in a file in the
    folder for temporary ones, as large as `cap` at the most and without a name, so that it goes with the process."""

    __slots__ = ("_cap", "_file", "_memory", "_read", "_written")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        #: The oldest octets.
        self._memory = bytearray()
        #: The ones behind them; written in a circle, so that the file need not be larger than what it holds.
        self._file: IO[bytes] | None = None
        self._written = self._read = 0

    def __len__(self) -> int:
        return len(self._memory) + self._written - self._read

    def put(self, data: memoryview) -> int:
        """Keep as much of `data` as there is room for; returns how many octets.  Raises `OSError`: no space left."""
        data = data[: self._cap - len(self)]
        if self._written == self._read and len(self._memory) + len(data) <= MEMORY and len(data) <= budget.PROCESS.room:
            self._memory += data
            self._charge()
            return len(data)
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, it is closed with the spool
        done = 0
        while done < len(data):
            at = self._written % self._cap
            try:
                count = os.pwrite(self._file.fileno(), data[done : done + self._cap - at], at)
            except OSError:
                if done:
                    return done
                raise
            self._written += count
            done += count
        return done

    def look(self) -> bytearray:
        """The oldest octets, some of them; none if it is empty."""
        if not self._memory and self._written > self._read and self._file is not None:
            at = self._read % self._cap
            count = min(MEMORY if budget.PROCESS.room else PIECE, self._written - self._read, self._cap - at)
            piece = os.pread(self._file.fileno(), count, at)
            if not piece:
                raise OSError(errno.EIO, "the file of a spool became shorter")
            self._memory += piece
            self._charge()
            self._read += len(piece)
        return self._memory

    def drop(self, count: int) -> None:
        """Forget the oldest octets, which `look` has shown."""
        del self._memory[:count]
        self._charge()

    def _charge(self) -> None:
        """Count the memory to the budget of the process; there is a file for bytes that do not fit."""
        budget.PROCESS.charge(self, self._memory.__alloc__())

    def close(self) -> None:
        """Forget all."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._memory.clear()
        budget.PROCESS.release(self)
        self._written = self._read = 0


class SpooledSocket(socket.socket):
    """A connected socket that takes what it is given to send, up to the cap of its spool, and sends it on whenever it
    is used.  It takes the descriptor of `connected` over."""

    def __init__(self, connected: socket.socket, cap: int) -> None:
        family, kind, timeout = connected.family, connected.type, connected.gettimeout()
        super().__init__(family, kind, 0, connected.detach())
        self.settimeout(timeout)
        self._spool = Spool(cap)
        #: The disk is, or something else is wrong with it.
        self._full = False
        #: An error of the file, which makes what the peer has yet to read unreadable.
        self.failure: OSError | None = None
        #: Called when it has come to have something to send on, and when it has no more: for who waits by readiness.
        self.changed: Callable[[], None] = _ignored

    @property
    def unsent(self) -> int:
        """How many octets wait to be sent on."""
        return len(self._spool)

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:  # type: ignore[override]
        """As `socket.send` with MSG_DONTWAIT, but that what the kernel does not take is kept, up to the cap."""
        view = memoryview(data)
        sent = 0
        if not self.flush():
            try:
                sent = super().send(view, DONTWAIT)
            except BlockingIOError:
                pass
        if sent < len(view):
            before = self.unsent
            kept = self._keep(view[sent:])
            if sent + kept == 0:
                raise BlockingIOError
            if kept and not before:
                self.changed()
            sent += kept
        return sent

    def _keep(self, data: memoryview) -> int:
        if self._full:
            return 0
        try:
            return self._spool.put(data)
        except OSError as error:
            # From here on this peer is served as it would be without a spool.
            self._full = True
            log.warning("what a peer has yet to read cannot be kept: %s", error.strerror)
            return 0

    def sendall(self, data: bytes | memoryview, flags: int = 0) -> None:  # type: ignore[override]
        """Have all of `data` sent or kept; waits while there is no room."""
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[self.send(unsent) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As `socket.recv`; while it waits, what is kept is sent on."""
        if not self.unsent:
            return super().recv(size, flags)
        while self.flush() and not flags & DONTWAIT:
            if self._wait(select.POLLIN | select.POLLOUT) & ~select.POLLOUT:
                break
        return super().recv(size, flags)

    def flush(self, wait: bool = False) -> int:
        """Send on what the kernel takes without waiting, or, with `wait`, at least something; returns how many octets
        are left.  Raises `OSError`."""
        spool = self._spool
        if not len(spool):
            return 0
        if wait:
            self._wait(select.POLLOUT)
        while kept := self._look():
            try:
                # A copy, for a bytearray cannot shrink while somebody looks at it.
                spool.drop(super().send(bytes(kept[:PIECE]), DONTWAIT))
            except BlockingIOError:
                return len(spool)
        self.changed()
        return 0

    def _look(self) -> bytearray:
        try:
            return self._spool.look()
        except OSError as error:
            self.failure = error
            raise

    def close(self) -> None:
        self._spool.close()
        super().close()

    def _wait(self, events: int) -> int:
        poll = select.poll()
        poll.register(self, events)
        timeout = self.gettimeout()
        ready = poll.poll(None if timeout is None else timeout * 1000)
        if not ready:
            raise TimeoutError("timed out")
        return ready[0][1]


def _ignored() -> None:
    pass
