"""The pid file of a detached daemon."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: Bytes for a pid and a line end.
ROOM = 16

#: Maximum pid, PID_MAX_LIMIT in proc(5).
PID_LIMIT = 1 << 22


class AlreadyRunning(Exception):
    """Another process holds the pidfile."""


class Pidfile:
    """The file ``run/NAME.pid``, locked while the daemon runs.

    A file without a lock is stale, left by a daemon that was killed, and is reused.  It is a context manager for
    `DaemonContext`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def fileno(self) -> int:
        return self._descriptor

    def lock(self) -> None:
        """Acquire the lock, which children inherit.  Raises `AlreadyRunning`, `OSError`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            # Mode 0600: any user that can open the file could lock it, flock(2).  O_NOFOLLOW: the user of [drop] may
            # own the folder, and root must not write to the target of that user's link.
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise self._irregular() if error.errno == errno.ELOOP else error from None
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise self._irregular()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise AlreadyRunning(f"already running as pid {self.read()}, see {self.path}") from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.lstat(self.path)):
                    self._descriptor = descriptor
                    with suppress(PermissionError):  # the file has another owner
                        os.fchmod(descriptor, 0o600)
                    # Allocate space now: the detached daemon, which writes the pid, could not report a full disk.
                    os.posix_fallocate(descriptor, 0, ROOM)
                    return
            # Another daemon has removed the file at its end, between open and lock: try again.
            os.close(descriptor)

    def read(self) -> int | None:
        """Return the pid in the file; None without a valid pid."""
        try:
            with open(self._open_to_read(), encoding="ascii") as file:
                pid = int(file.read(ROOM + 1))
        except (OSError, ValueError):
            return None
        return pid if 0 < pid <= PID_LIMIT else None

    def held(self) -> bool:
        """Return whether a process holds the lock.  Raises `PermissionError` if the file belongs to another user."""
        try:
            descriptor = self._open_to_read()
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _open_to_read(self) -> int:
        # O_NONBLOCK: open(2) of a FIFO would wait for a writer.  O_NOFOLLOW: through a link, the daemon could be any
        # process that has locked a file with its pid.
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)

    def _irregular(self) -> OSError:
        return OSError(errno.EEXIST, "exists and is not a regular file", str(self.path))

    def opened_by(self, pid: int) -> bool:
        """Return whether the process `pid` has this file open.  The daemon has; a process that reuses its pid has not.

        Return True if this user may not inspect the process."""
        folder = f"/proc/{pid}/fd"
        try:
            own = self.path.lstat()
            descriptors = os.listdir(folder)
        except PermissionError:
            return True  # the daemon has changed its user, which hides its descriptors, proc(5)
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
        # After [drop], the process may lack the permission to remove the file.  A file left behind is stale.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Close this process's copy of the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
