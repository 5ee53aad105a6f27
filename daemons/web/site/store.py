"""Documents in a folder: each is a file, replaced as a whole.

Who writes holds the folder's lock (flock(2)), so that between the look at what is there and its replacement nobody else
writes, in this process or in another; who reads holds nothing, and has either the old document or the new one.  What is
said to be stored is on the disk (fsync(2)): a client that was told 201 throws its own copy away, and without that, a
power cut after the rename could leave an empty file.
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
from typing import NamedTuple

from daemons.web.files.conditions import Validators, tag_of
from daemons.web.files.lookup import Folder, Identity, Refused, identity_of, refused

#: What a document may be called: nothing that a shell, a URL, a log or another system takes for something else, and
#: nothing hidden.
NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9._~\-]{0,99}")

#: Where a document is written before it has its name.  Under the lock there is one at a time, and what a power cut left
#: behind is removed by the next.
INCOMING = b".incoming"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

#: A new file in any case: to open a FIFO would wait, and a hard link would have another file overwritten.
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

#: Nanoseconds in which file systems count that do not count each: ext4 with small inodes, and FAT.
_STEPS = (10**9, 2 * 10**9)

#: What an error of writing comes to; any other is a failure.
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
}

#: From what is there, or None, to the status that speaks against writing; 0: nothing does.
Precondition = Callable[[Validators | None], int]


class Entry(NamedTuple):
    """A document in the list of all."""

    name: str
    #: Octets.
    size: int
    #: Nanoseconds since 1970.
    modified: int


class Store:
    """The documents in `folder`, which is made when the first is written: up to `count` of them, and up to `space`
    octets in all.  All methods raise `Refused`, with the status that says why."""

    def __init__(self, folder: str, count: int, space: int) -> None:
        self._folder = folder
        self._count = count
        self._space = space

    @property
    def folder(self) -> str:
        """Where the documents are."""
        return self._folder

    def identity(self, name: bytes) -> Identity | None:
        """Return the identity of a document; None if there is none."""
        try:
            return identity_of(os.stat(os.path.join(os.fsencode(self._folder), name), follow_symlinks=False))
        except (OSError, ValueError):
            return None

    def open(self) -> Folder:
        """The folder, for reading."""
        try:
            return Folder(os.open(self._folder, _FOLDER))
        except FileNotFoundError:
            raise Refused(404) from None
        except OSError as error:
            raise refused(error, _STATUSES) from error

    def entries(self) -> list[Entry]:
        """All documents, by name."""
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
        """Write a document.  Returns whether it is new, and its validators."""
        with self._locked(make=True) as folder:
            before = _found(folder, name)
            if status := precondition(None if before is None else _validators(before)):
                raise Refused(status)
            self._make_sure_of_room(folder, name, len(body), before is None)
            return before is None, _validators(_write(folder, name, body, before))

    def delete(self, name: bytes, precondition: Precondition) -> None:
        """Take a document away."""
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
                    # Not for everybody on this machine: who may read them, the daemon decides.
                    os.mkdir(self._folder, 0o750)
                    _sync(os.path.dirname(self._folder) or ".")
            elif not os.path.isdir(self._folder):
                raise Refused(404)
            folder = os.open(self._folder, _FOLDER)
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield folder
        except OSError as error:
            raise refused(error, _STATUSES) from error
        finally:
            if folder >= 0:
                os.close(folder)  # and with it the lock

    def _make_sure_of_room(self, folder: int, name: bytes, size: int, new: bool) -> None:
        # Looked at each time, since others may write here too; of a thousand files that takes a few milliseconds.
        others = [each for each in _entries(folder) if each.name != name.decode("ascii")]
        if (new and len(others) >= self._count) or sum(each.size for each in others) + size > self._space:
            raise Refused(507)


def _sync(path: str) -> None:
    """Have the names in a folder on the disk, if it may be read."""
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
        raise Refused(403)  # somebody has put it there who knows why
    return found


def _write(folder: int, name: bytes, body: bytes, before: os.stat_result | None) -> os.stat_result:
    """Write it beside, and put it in its place.  Returns what it is then."""
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
    os.fsync(folder)  # its name, too
    return found


def _dated(descriptor: int, before: os.stat_result | None) -> os.stat_result:
    """Give a document another time than the one it replaces had, and return its status.

    The kernel's clock goes in steps of some milliseconds, within which two documents of one length would have one tag,
    and the later writer would not be told that he is late."""
    now = time.time_ns()
    least = now if before is None else before.st_mtime_ns
    # The last of them: before the other, where that has the last time there is.
    for when in (max(now, least + 1), *(max(now, least + step) for step in _STEPS), now):
        os.utime(descriptor, ns=(when, when))
        found = os.fstat(descriptor)
        if before is None or found.st_mtime_ns != before.st_mtime_ns:
            break
    return found


def _validators(found: os.stat_result) -> Validators:
    return Validators(tag_of(found.st_mtime_ns, found.st_size), found.st_mtime_ns // 10**9)
