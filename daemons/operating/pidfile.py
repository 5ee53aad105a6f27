"""The pid file of a detached daemon."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: Bytes that are enough for a pid and a line end.
ROOM = 16

#: No pid is above it, proc(5): PID_MAX_LIMIT.
PID_LIMIT = 1 << 22


class AlreadyRunning(Exception):
    """Another process holds the pidfile."""


class Pidfile:
    """``run/NAME.pid``, locked for as long as the daemon lives.

    The lock decides, not the file: the file of a daemon that was killed is not locked, hence stale, and
    is taken over.  A context manager, as `DaemonContext` wants it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def fileno(self) -> int:
        return self._descriptor

    def lock(self) -> None:
        """Take the lock, which children inherit.  Raises `AlreadyRunning`, `OSError`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            # For the owner alone: flock(2) needs no more than that a file can be opened.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EEXIST, "a file that is not a regular one is in the way", str(self.path))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise AlreadyRunning(f"already running as pid {self.read()}, see {self.path}") from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    self._descriptor = descriptor
                    with suppress(PermissionError):  # of another owner, whose mode it is
                        os.fchmod(descriptor, 0o600)
                    # The pid is written when the daemon is detached, and could not report a full disk any more.
                    os.posix_fallocate(descriptor, 0, ROOM)
                    return
            # A daemon that was just ending has removed the file between our open and our lock.
            os.close(descriptor)

    def read(self) -> int | None:
        """Return the pid in the file, None if there is none."""
        try:
            with open(self._open_to_read(), encoding="ascii") as file:
                pid = int(file.read(ROOM + 1))
        except (OSError, ValueError):
            return None
        return pid if 0 < pid <= PID_LIMIT else None

    def held(self) -> bool:
        """Return whether a living process holds the lock.  Raises `PermissionError` where the file is another
        user's."""
        try:
            with open(self._open_to_read(), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _open_to_read(self) -> int:
        # Of a FIFO without a writer, open(2) would wait for one otherwise.
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def opened_by(self, pid: int) -> bool:
        """Return whether the process `pid` has this very file open, as the daemon has that wrote its pid into it: a
        pid alone may by now be that of another process.  True where the system does not let us look."""
        folder = f"/proc/{pid}/fd"
        try:
            own = self.path.stat()
            descriptors = os.listdir(folder)
        except PermissionError:
            return True  # a daemon that has changed its user: its files are not shown to that user, proc(5)
        except OSError:
            return False
        for descriptor in descriptors:
            with suppress(OSError):
                if os.path.samestat(own, os.stat(f"{folder}/{descriptor}")):
                    return True
        return False

    def __enter__(self) -> Pidfile:
        line = f"{os.getpid()}\n".encode("ascii")
        os.pwrite(self._descriptor, line, 0)
        os.ftruncate(self._descriptor, len(line))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After [drop] it may be beyond us; then the file stays, unlocked, hence stale.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Close this process's copy of the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
