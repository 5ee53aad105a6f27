"""POSIX record locks on single bytes, fcntl(2): held by a process, and released by the kernel when it ends.

Such a lock is also lost when its process closes *any* descriptor of the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

#: struct flock of fcntl(2): type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")


def lock(descriptor: int, offset: int) -> bool:
    """Lock the byte at `offset`; return False if another process holds the lock.  Raise any other `OSError`."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def unlock(descriptor: int, offset: int) -> None:
    """Release this process's lock on the byte at `offset`."""
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)


def is_locked(descriptor: int, offset: int) -> bool:
    """Return whether another process has locked the byte at `offset`; a process does not see its own locks."""
    request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    kind: int = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, request))[0]
    return kind != fcntl.F_UNLCK
