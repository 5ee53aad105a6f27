"""The scoreboard of a daemon (Apache's term): counters in memory that its processes share.

    page 0     name and engine of the daemon, and the names of the words that follow
    page 1 …   one `Slot` for each process: words of 64 bits that only this process writes

The memory is a memfd, sealed against shrinking: a mapped file that somebody truncates ends every process that writes
to it with SIGBUS, mmap(2).  ``run/NAME.metrics`` is a copy, written at least once a second.
`daemons.operating.metrics.stats` reads it without asking the daemon, so that a daemon that hangs, or has ended, can be
read too.  If the copy is removed
or replaced while the daemon runs, its first process writes it again within two seconds, and the others open that.

POSIX locks tell which processes live, fcntl(2): a process holds one on the first byte of its slot, in the memory and in
the copy, and loses both however it ends.  Such a lock is also lost when its process closes *any* descriptor of the
file, and an mmap object has one: a process that counts closes no mapping of the memory before its end.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import mmap
import os
import struct
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from daemons.operating.metrics.metrics_file import TakenError, in_place_of, new_file
from daemons.operating.metrics.slot import BOUNDS, ENDINGS, PAGE, REALS, REFUSALS, ROLES, WORDS, Slot
from daemons.serving.record_locks import is_locked, lock

log = logging.getLogger(__name__)

MAGIC = b"camelot\0"
#: Counts up when a reader made for another can no longer read it.  A new word or ending is no reason: the
#: names are in the file.
FORMAT = 1
#: Magic, format, octets of the text that follows, and their CRC-32.
HEAD = struct.Struct("<8sQQQ")

#: Minimum seconds between two checks that the copy is still at its path.
CHECK_INTERVAL = 1.0

#: Bytes at the start of a slot that identify a run of its process: pid, role, time of the start.
IDENTITY = 24

#: Slots that are looked at for a free one: many more than a daemon has processes.
MOST = 100_000


class Scoreboard:
    """The counters of one daemon, to write and to read.  They grow by a slot when more processes live than ever before.

    descriptor
        Of the shared memory; of a reader, of the copy.
    copy
        The file at ``run/NAME.metrics``; -1: there is none.
    path
        The path of the copy.
    """

    def __init__(self, descriptor: int, copy: int = -1, path: Path | None = None) -> None:
        self.descriptor = descriptor
        self._copy = copy
        #: None: the copy is not written again when it is removed.
        self._path = path
        self._next_check = 0.0
        #: Held by the one thread that replaces the copy; never waited for, since a signal handler publishes too.
        self._replacing = threading.Lock()
        #: Whether the log has the reason why the copy could not be written again.
        self._logged = False
        #: The page of this process's own slot.
        self._own = 0

    @classmethod
    def create(cls, path: Path, about: dict[str, Any]) -> Scoreboard:
        """Make a new one, with its copy at `path`, in place of that of an earlier run.  Where the folder cannot be
        written, or another daemon of this name runs, there is no copy: the counters serve the endpoint alone."""
        text = json.dumps(
            {
                **about,
                "page": PAGE,
                "words": WORDS,
                "reals": sorted(REALS),
                "refusals": REFUSALS,
                "endings": ENDINGS,
                "bounds": BOUNDS,
                "roles": ROLES,
            }
        ).encode()
        page = HEAD.pack(MAGIC, FORMAT, len(text), zlib.crc32(text)) + text
        assert len(page) <= PAGE
        copy = -1
        try:
            copy = new_file(path, page)
        except TakenError:
            log.info("%s: another daemon of this name is running, of which `daemons stats` tells", path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            log.warning("%s: %s, so `daemons stats` cannot tell of this daemon", path, reason)
        descriptor = os.memfd_create("metrics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(descriptor, page.ljust(PAGE, b"\0"))
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return cls(descriptor, copy, path)

    @property
    def first(self) -> bool:
        """Whether this process has the first slot: it is the one that was started."""
        return self._own == 1

    @property
    def copied(self) -> bool:
        """Whether there is a file for others to read."""
        return self._copy >= 0

    def claim(self, role: str, first: int = 1) -> Slot:
        """Take the first slot that no living process has, from page `first` on.  Raises `OSError` (ENOLCK) where there
        is none within `MOST`."""
        for page in range(first, first + MOST):
            if not lock(self.descriptor, page * PAGE):
                continue
            if self.copied:
                # For readers.  A lock of somebody else's there must not keep this process from counting.
                with suppress(OSError):
                    lock(self._copy, page * PAGE)
            if os.fstat(self.descriptor).st_size < (page + 1) * PAGE:
                # Not only longer: without memory left, a write into a hole would be a SIGBUS.
                os.posix_fallocate(self.descriptor, page * PAGE, PAGE)
            self._own = page
            slot = Slot(self, mmap.mmap(self.descriptor, PAGE, offset=page * PAGE), role)
            self._copy_slots()  # at once: there is a process more
            return slot
        raise OSError(errno.ENOLCK, f"none of {MOST} slots for counters is free")

    def publish(self) -> None:
        """Bring the copy up to date.  The process that has the first slot copies all of them, so that the figures of
        several processes agree; where it has died, each copies its own."""
        self._check_copy()
        if self.first or not self.alive(1):
            self._copy_slots()

    def _copy_slots(self) -> None:
        """Copy this process's own slot, or all of them if that is the first."""
        if not self.copied:
            return
        size = os.fstat(self.descriptor).st_size
        first, length = (0, size) if self.first else (self._own * PAGE, PAGE)
        # A full disk, and whoever truncates or removes the file, harm the copy alone, and not for longer than a second.
        with suppress(OSError):
            if (found := os.fstat(self._copy).st_size) < size or (self.first and found > size):
                os.ftruncate(self._copy, size)
            os.pwrite(self._copy, os.pread(self.descriptor, length, first), first)

    def _check_copy(self) -> None:
        """Replace the copy if it is no longer at its path, at most once in `CHECK_INTERVAL`."""
        now = time.monotonic()
        if now < self._next_check or self._path is None or not self.copied:
            return
        self._next_check = now + CHECK_INTERVAL
        if not self._replacing.acquire(blocking=False):
            return
        try:
            if not self._is_at(self._path):
                if self.first:
                    self._write_copy_again(self._path)
                else:
                    self._open_copy_again(self._path)
        except TakenError:
            pass  # another daemon of this name has taken the path since
        except OSError as error:
            if self.first and not self._logged:
                self._logged = True
                reason = (error.strerror or str(error)).lower()
                log.warning("%s: was removed, and cannot be written again: %s", self._path, reason)
        finally:
            self._replacing.release()

    def _is_at(self, path: Path) -> bool:
        """Return whether the file at `path` is the open copy."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._copy))
        except FileNotFoundError:
            return False

    def _write_copy_again(self, path: Path) -> None:
        """Put a new copy at `path`, with a lock on this process's slot.  Raises `TakenError`, `OSError`."""
        # Not its parents: with the whole project removed, nothing is to appear in its place.
        path.parent.mkdir(exist_ok=True)
        with in_place_of(path) as opened:
            try:
                os.pwrite(opened, self.memory(), 0)
            except BaseException:
                os.close(opened)
                raise
            self._take_copy(opened)
        self._logged = False
        log.warning("%s: was removed or replaced; written again", path)

    def _open_copy_again(self, path: Path) -> None:
        """Open the copy that the first process of this daemon has written again.  Raises `OSError`."""
        opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if os.pread(opened, IDENTITY, PAGE) == os.pread(self.descriptor, IDENTITY, PAGE):
            self._take_copy(opened)
        else:
            os.close(opened)  # another daemon's

    def _take_copy(self, opened: int) -> None:
        """Use a file as the copy from now on.  Under the same number, since another thread may be about to write to it;
        and locked last, since to close a descriptor of a file ends the locks on it."""
        os.dup2(opened, self._copy, inheritable=False)
        os.close(opened)
        lock(self._copy, self._own * PAGE)

    def memory(self) -> memoryview:
        """Return all of it as it is now, to read."""
        return memoryview(os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0))

    def alive(self, page: int) -> bool:
        """Return whether a living process has the slot in `page`."""
        if page == self._own:
            return True  # a process does not see its own locks
        return is_locked(self.descriptor, page * PAGE)

    def abandon(self, path: Path) -> None:
        """Remove the copy from `path`, if it is still there: an orphan leaves the path to the next daemon, which may
        begin before this one has ended."""
        self._path = None
        with suppress(OSError):
            if self.copied and os.path.samestat(os.fstat(self._copy), os.stat(path)):
                path.unlink()

    def close(self) -> None:
        """Close the descriptors: in a process that counts nothing, or nothing more."""
        os.close(self.descriptor)
        if self.copied:
            os.close(self._copy)


def open_copy(path: Path) -> Scoreboard:
    """Return the scoreboard in the file at `path`, to read.  Raises `OSError`."""
    # Of a FIFO without a writer, open(2) would wait for one otherwise.
    return Scoreboard(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))


def has_orphans(path: Path) -> bool:
    """Whether processes of an earlier run live on, of which the first has gone."""
    try:
        former = open_copy(path)
    except OSError:
        return False
    try:
        pages = os.fstat(former.descriptor).st_size // PAGE
        return not former.alive(1) and any(map(former.alive, range(2, pages)))
    finally:
        former.close()
