"""Document storage: each document is a file in one folder, replaced atomically.

A writer holds the folder's lock (flock(2)), so that no other thread or process writes between checking a document and
replacing it.  Readers need no lock: they see the old document or the new one.  A document is on the disk (fsync(2))
before the response is sent: clients may discard their copy after 201, and without fsync a power failure after the
rename could leave an empty file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import BoundedSemaphore
from typing import NamedTuple

from daemons.web.files.conditions import Validators, tag_of
from daemons.web.files.lookup import Folder, Identity, Refused, identity_of, refused

#: Names of documents: not hidden, and without characters that are special in URLs, shells, logs or other file systems.
NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9._~\-]{0,99}")

#: Temporary name of a document that is being written.  The lock allows one at a time, and the next writer removes a
#: file left over from a crash.
INCOMING = b".incoming"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

#: Always a new file: opening a FIFO would block, and writing to a hard link would overwrite another file.
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

#: Coarse time stamps of file systems, in nanoseconds: ext4 with small inodes, and FAT.
_STEPS = (10**9, 2 * 10**9)

#: Seconds that any thread waits for the folder's lock; that few threads wait, since a slow disk or a program that holds
#: the lock must not occupy all 16 threads of ``engine = pool``; and between two attempts.
SHORT, PATIENCE, POLL = 0.1, 5.0, 0.005

#: Maximum number of threads that wait for `PATIENCE`, for all folders of the process.
MOST_WAITING = 4
_places = BoundedSemaphore(MOST_WAITING)

#: Statuses for errors of writing; other errors are server failures.
_STATUSES = {
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
    errno.EFBIG: 507,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EROFS: 403,
    errno.EISDIR: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    # The folder, or one above it, was removed or replaced while the daemon runs.
    errno.ENOENT: 503,
    errno.ENOTDIR: 503,
    errno.ELOOP: 503,
}

#: Given the validators of the document, or None, returns an error status, or 0 to allow the change.
Precondition = Callable[[Validators | None], int]


class Entry(NamedTuple):
    """A document in the list."""

    name: str
    #: Bytes.
    size: int
    #: Nanoseconds since 1970.
    modified: int


class Store:
    """The documents in `folder`, which is created on the first write: at most `count`, of at most `space` bytes in all.

    All methods raise `Refused` with an error status."""

    def __init__(self, folder: str, count: int, space: int) -> None:
        self._folder = folder
        self._count = count
        self._space = space

    @property
    def folder(self) -> str:
        """The folder of the documents."""
        return self._folder

    def identity(self, name: bytes) -> Identity | None:
        """Return the identity of a document; None if it does not exist."""
        try:
            return identity_of(os.stat(os.path.join(os.fsencode(self._folder), name), follow_symlinks=False))
        except (OSError, ValueError):
            return None

    def open(self) -> Folder:
        """Open the folder for reading."""
        try:
            return Folder(os.open(self._folder, _FOLDER))
        except FileNotFoundError:
            raise Refused(404) from None
        except OSError as error:
            raise refused(error, _STATUSES) from error

    def entries(self) -> list[Entry]:
        """Return all documents, sorted by name."""
        try:
            folder = os.open(self._folder, _FOLDER)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise refused(error, _STATUSES) from error
        try:
            return sorted(_entries(folder))
        finally:
            os.close(folder)

    def put(self, name: bytes, body: bytes, precondition: Precondition) -> tuple[bool, Validators]:
        """Create or replace a document.  Return whether it is new, and its validators."""
        with self._locked(make=True) as folder:
            before = _found(folder, name)
            if status := precondition(None if before is None else _validators(before)):
                raise Refused(status)
            self._check_room(folder, name, len(body), before is None)
            return before is None, _validators(_write(folder, name, body, before))

    def delete(self, name: bytes, precondition: Precondition) -> None:
        """Delete a document."""
        with self._locked(make=False) as folder:
            before = _found(folder, name)
            if before is None:
                raise Refused(404)
            if status := precondition(_validators(before)):
                raise Refused(status)
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    @contextmanager
    def _locked(self, *, make: bool) -> Iterator[int]:
        folder = -1
        try:
            if make:
                with suppress(FileExistsError):
                    # Not readable by other users of the machine: the daemon decides about access.
                    os.mkdir(self._folder, 0o750)
                    _sync(os.path.dirname(self._folder) or ".")
            try:
                folder = os.open(self._folder, _FOLDER)
            except FileNotFoundError:
                if make:
                    raise
                raise Refused(404) from None
            _lock(folder)
            yield folder
        except OSError as error:
            raise refused(error, _STATUSES) from error
        finally:
            if folder >= 0:
                os.close(folder)  # releases the lock

    def _check_room(self, folder: int, name: bytes, size: int, new: bool) -> None:
        # Listed each time, since other programs may write here too; for 1000 files this takes a few milliseconds.
        others = [each for each in _entries(folder) if each.name != name.decode("ascii")]
        if (new and len(others) >= self._count) or sum(each.size for each in others) + size > self._space:
            raise Refused(507)


def _lock(folder: int) -> None:
    """Acquire the folder's lock, flock(2).  Raises `Refused` (503) if others hold it too long, or too many threads
    wait."""
    if _acquire_within(folder, SHORT):
        return
    if not _places.acquire(blocking=False):
        raise Refused(503)
    try:
        if not _acquire_within(folder, PATIENCE):
            reason = f"the lock of the folder was held by others for {PATIENCE:g} s"
            raise Refused(503) from BlockingIOError(errno.EWOULDBLOCK, reason)
    finally:
        _places.release()


def _acquire_within(folder: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(POLL)
        else:
            return True


def _sync(path: str) -> None:
    """Write a folder's entries to the disk, if it may be read."""
    try:
        folder = os.open(path, _FOLDER)
    except PermissionError:
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _entries(folder: int) -> Iterator[Entry]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if NAME.fullmatch(os.fsencode(entry.name)) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    yield Entry(entry.name, found.st_size, found.st_mtime_ns)


def _found(folder: int, name: bytes) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise Refused(403)  # not created by this daemon
    return found


def _write(folder: int, name: bytes, body: bytes, before: os.stat_result | None) -> os.stat_result:
    """Write a document to a temporary file, and rename it.  Return its status."""
    with suppress(FileNotFoundError):
        os.unlink(INCOMING, dir_fd=folder)
    descriptor = os.open(INCOMING, _WRITE, 0o640, dir_fd=folder)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        found = _dated(descriptor, before)
        os.fsync(descriptor)
        os.rename(INCOMING, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(INCOMING, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)
    os.fsync(folder)  # the directory entry
    return found


def _dated(descriptor: int, before: os.stat_result | None) -> os.stat_result:
    """Set a modification time that differs from that of the replaced document, and return the status.

    The kernel's clock advances in steps of some milliseconds.  Two versions of equal length within one step would have
    the same entity tag, and If-Match could not detect a lost update."""
    now = time.time_ns()
    least = now if before is None else before.st_mtime_ns
    # The last candidate is for a document with the latest time that the file system can store.
    for when in (max(now, least + 1), *(max(now, least + step) for step in _STEPS), now):
        os.utime(descriptor, ns=(when, when))
        found = os.fstat(descriptor)
        if before is None or found.st_mtime_ns != before.st_mtime_ns:
            break
    return found


def _validators(found: os.stat_result) -> Validators:
    return Validators(tag_of(found.st_mtime_ns, found.st_size), found.st_mtime_ns // 10**9)
