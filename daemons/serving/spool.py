"""Buffer for unsent replies, in memory and in a temporary file: `Limits.spool`.

Without a spool, a server stops reading until the peer has taken its replies.  If the peer sends all its requests before
it reads the first reply, the two deadlock once the kernel's buffers are full.  With a spool the server continues to
read, and buffers the replies: up to 1 MiB in memory, the rest in an unnamed temporary file.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import tempfile
import threading
from collections.abc import Callable
from typing import IO

from daemons.serving.guards import budget

log = logging.getLogger(__name__)

#: Maximum bytes in memory; the kernel's socket buffers hold a few times as much.
MEMORY = 1024**2

#: Maximum bytes per send(2).
PIECE = 64 * 1024

DONTWAIT = socket.MSG_DONTWAIT


class Spool:
    """First-in, first-out buffer of at most `cap` bytes.

    Bytes beyond `MEMORY` are in an unnamed temporary file of at most `cap` bytes.  The kernel frees the file
    when the process ends."""

    __slots__ = ("_cap", "_file", "_memory", "_read", "_written")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        #: The oldest bytes.
        self._memory = bytearray()
        #: The bytes after those in memory, as a ring buffer in a file.
        self._file: IO[bytes] | None = None
        self._written = self._read = 0

    def __len__(self) -> int:
        return len(self._memory) + self._written - self._read

    def put(self, data: memoryview) -> int:
        """Append as much of `data` as fits, and return the number of bytes.  Raise `OSError` if the disk is full."""
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

    def peek(self) -> bytearray:
        """Return the oldest bytes, some or all, without removing them; empty if the spool is empty."""
        if not self._memory and self._written > self._read and self._file is not None:
            at = self._read % self._cap
            count = min(MEMORY if budget.PROCESS.room else PIECE, self._written - self._read, self._cap - at)
            piece = os.pread(self._file.fileno(), count, at)
            if not piece:
                raise OSError(errno.EIO, "spool file was truncated")
            self._memory += piece
            self._charge()
            self._read += len(piece)
        return self._memory

    def drop(self, count: int) -> None:
        """Remove the oldest `count` bytes, which `peek` has returned."""
        del self._memory[:count]
        self._charge()

    def _charge(self) -> None:
        """Charge the memory to the budget of the process; bytes that do not fit there go to the file."""
        budget.PROCESS.charge(self, self._memory.__alloc__())

    def close(self) -> None:
        """Discard all bytes, and close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._memory.clear()
        budget.PROCESS.release(self)
        self._written = self._read = 0


class SpooledSocket(socket.socket):
    """A connected socket that buffers unsent bytes, up to the cap of its spool, and sends them whenever it is used.

    It takes over the descriptor of `connected`."""

    def __init__(self, connected: socket.socket, cap: int) -> None:
        family, kind, timeout = connected.family, connected.type, connected.gettimeout()
        super().__init__(family, kind, 0, connected.detach())
        self.settimeout(timeout)
        self._spool = Spool(cap)
        #: Held while bytes are taken from or added to the spool: other threads may `push` while one waits in `recv`.
        self._lock = threading.RLock()
        #: Whether writing to the spool file has failed, for example because the disk is full.
        self._full = False
        #: Error while reading the spool file: the unsent bytes are lost.
        self.failure: OSError | None = None
        #: Called when the spool becomes non-empty and when it becomes empty, for pollers.
        self.changed: Callable[[], None] = _ignored

    @property
    def unsent(self) -> int:
        """Number of buffered bytes."""
        return len(self._spool)

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:  # type: ignore[override]
        """As `socket.send` with MSG_DONTWAIT, but buffer the bytes that the kernel does not take, up to the cap."""
        view = memoryview(data)
        sent = 0
        with self._lock:
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

    def push(self, data: bytes) -> int:
        """As `send`, while another thread may wait in `recv`.  Bytes that the kernel does not take are buffered only if
        that thread is sending buffered bytes already: else it would not notice them."""
        with self._lock:
            if not self.flush():
                return super().send(data, DONTWAIT)
            if kept := self._keep(memoryview(data)):
                return kept
        raise BlockingIOError

    def _keep(self, data: memoryview) -> int:
        if self._full:
            return 0
        try:
            return self._spool.put(data)
        except OSError as error:
            # From now on this peer is served as if it had no spool.
            self._full = True
            log.warning("spool: unsent replies cannot be buffered: %s", error.strerror)
            return 0

    def sendall(self, data: bytes | memoryview, flags: int = 0) -> None:  # type: ignore[override]
        """Send or buffer all of `data`; wait while the spool is full."""
        unsent = memoryview(data)
        while unsent:
            try:
                unsent = unsent[self.send(unsent) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As `socket.recv`; while it waits, send buffered bytes."""
        if not self.unsent:
            return super().recv(size, flags)
        while self.flush() and not flags & DONTWAIT:
            if self._wait(select.POLLIN | select.POLLOUT) & ~select.POLLOUT:
                break
        return super().recv(size, flags)

    def flush(self, wait: bool = False) -> int:
        """Send as many buffered bytes as the kernel takes without waiting or, with `wait`, after waiting once.

        Return the number of bytes left.  Raise `OSError`."""
        spool = self._spool
        if not len(spool):
            return 0
        if wait:
            self._wait(select.POLLOUT)
        with self._lock:
            while kept := self._peek():
                try:
                    # A copy, because a bytearray with an exported buffer cannot shrink.
                    spool.drop(super().send(bytes(kept[:PIECE]), DONTWAIT))
                except BlockingIOError:
                    return len(spool)
            self.changed()
        return 0

    def _peek(self) -> bytearray:
        try:
            return self._spool.peek()
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
