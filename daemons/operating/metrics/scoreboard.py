"""The scoreboard of a daemon (Apache's term): counters in memory that its processes share.

    page 0     name and engine of the daemon, and the names of the words that follow
    page 1 …   one `Slot` for each process: words of 64 bits that only this process writes

The memory is a memfd, sealed against shrinking: after truncation of a mapped file, every write to it raises SIGBUS,
mmap(2).  ``run/NAME.metrics`` is a copy, written at least once a second.  `daemons.operating.metrics.stats` reads it
without the daemon's help, so also if that hangs or has ended.  If the copy is removed or replaced, the first
process writes it again within two seconds, and the others open it.

POSIX locks show which processes run, fcntl(2): a process locks the first byte of its slot, in the memory and in the
copy, and the kernel releases both at its end.  A lock is also released when the process closes *any* descriptor of the
file, and an mmap object has one: so a process that counts closes no mapping of the memory before its end.
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
from daemons.operating.metrics.slot import (
    BOUNDS,
    ENDINGS,
    HEARTBEAT,
    PAGE,
    PID,
    REALS,
    REFUSALS,
    ROLE,
    ROLES,
    WORDS,
    Slot,
)
from daemons.serving.record_locks import is_locked, lock

log = logging.getLogger(__name__)

MAGIC = b"camelot\0"
#: Increased by incompatible changes.  A new word or ending is compatible: the names are in the file.
FORMAT = 1
#: Magic, format, size in bytes of the following text, and its CRC-32.
HEAD = struct.Struct("<8sQQQ")

#: Minimum seconds between two checks that the copy is still at its path.
CHECK_INTERVAL = 1.0

#: Bytes at the start of a slot that identify a run of its process: pid, role, time of the start.
IDENTITY = 24

_WORKER = ROLES.index("worker")

#: Maximum number of slots, many more than a daemon has processes.
MAX_SLOTS = 100_000


class Scoreboard:
    """Counters of one daemon.  A slot is added if every existing one belongs to a running process.

    descriptor
        The shared memory; for a reader, the copy.
    copy
        The file ``run/NAME.metrics``; -1 if there is none.
    path
        The path of the copy.
    """

    def __init__(self, descriptor: int, copy: int = -1, path: Path | None = None) -> None:
        self.descriptor = descriptor
        self._copy = copy
        #: None: a removed copy is not written again.
        self._path = path
        self._next_check = 0.0
        #: Held by the thread that replaces the copy; acquired without waiting, since a signal handler publishes too.
        self._replacing = threading.Lock()
        #: Whether the failure to write the copy again has been logged.
        self._logged = False
        #: Page of this process's slot.
        self._own = 0

    @classmethod
    def create(cls, path: Path, about: dict[str, Any]) -> Scoreboard:
        """Create the scoreboard, and replace the copy of an earlier run at `path`.

        Without a copy, if the folder is not writable or another daemon of this name runs, the counters serve only the
        endpoint."""
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
            log.info("%s: another daemon of this name is running; `daemons stats` shows that one", path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            log.warning("%s: %s; `daemons stats` cannot show this daemon", path, reason)
        descriptor = os.memfd_create("metrics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(descriptor, page.ljust(PAGE, b"\0"))
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return cls(descriptor, copy, path)

    @property
    def first(self) -> bool:
        """Whether this process has the first slot, as the first process of the daemon has."""
        return self._own == 1

    @property
    def copied(self) -> bool:
        """Whether there is a copy for readers."""
        return self._copy >= 0

    def claim(self, role: str, first: int = 1) -> Slot:
        """Claim the first slot, from page `first` on, that belongs to no running process.

        Raises `OSError` (ENOLCK) if none of `MAX_SLOTS` is free."""
        for page in range(first, first + MAX_SLOTS):
            if not lock(self.descriptor, page * PAGE):
                continue
            if self.copied:
                # For readers.  A foreign lock on the copy must not prevent counting.
                with suppress(OSError):
                    lock(self._copy, page * PAGE)
            if os.fstat(self.descriptor).st_size < (page + 1) * PAGE:
                # Allocated: without free memory, a write into a hole would raise SIGBUS.
                os.posix_fallocate(self.descriptor, page * PAGE, PAGE)
            self._own = page
            slot = Slot(self, mmap.mmap(self.descriptor, PAGE, offset=page * PAGE), role)
            self._copy_slots()  # at once, to show the new process
            return slot
        raise OSError(errno.ENOLCK, f"none of {MAX_SLOTS} slots for counters is free")

    def publish(self) -> None:
        """Update the copy.  The process of the first slot copies all slots, so that they are consistent; after its
        death, each process copies its own."""
        self._check_copy()
        if self.first or not self.alive(1):
            self._copy_slots()

    def _copy_slots(self) -> None:
        """Copy this process's slot, or all slots if that is the first."""
        if not self.copied:
            return
        size = os.fstat(self.descriptor).st_size
        first, length = (0, size) if self.first else (self._own * PAGE, PAGE)
        # A full disk or a truncated file affects only the copy, until the next update.
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
                log.warning("%s: removed or replaced, and cannot be written again: %s", self._path, reason)
        finally:
            self._replacing.release()

    def _is_at(self, path: Path) -> bool:
        """Return whether the file at `path` is the open copy."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._copy))
        except FileNotFoundError:
            return False

    def _write_copy_again(self, path: Path) -> None:
        """Write a new copy to `path`, with a lock on this process's slot.  Raises `TakenError`, `OSError`."""
        # Without parents: a removed project must not reappear.
        path.parent.mkdir(exist_ok=True)
        with in_place_of(path) as opened:
            try:
                os.pwrite(opened, self.memory(), 0)
            except BaseException:
                os.close(opened)
                raise
            self._take_copy(opened)
        self._logged = False
        log.warning("%s: removed or replaced; written again", path)

    def _open_copy_again(self, path: Path) -> None:
        """Open the copy that the first process of this daemon has written again.  Raises `OSError`."""
        opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if os.pread(opened, IDENTITY, PAGE) == os.pread(self.descriptor, IDENTITY, PAGE):
            self._take_copy(opened)
        else:
            os.close(opened)  # another daemon's

    def _take_copy(self, opened: int) -> None:
        """Replace the copy by an open file.

        The descriptor number stays, since another thread may be about to use it.  The lock comes last, since closing a
        descriptor of the file releases it."""
        os.dup2(opened, self._copy, inheritable=False)
        os.close(opened)
        lock(self._copy, self._own * PAGE)

    def memory(self) -> memoryview:
        """Return a snapshot of the whole memory."""
        return memoryview(os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0))

    def heartbeats(self) -> dict[int, int]:
        """Return the bits of the last heartbeat of each worker, by pid.

        The slot of a dead process keeps its pid until it is taken over.  If the pid is in use again, the later
        heartbeat counts; the bits of positive doubles are in the order of their values."""
        words = self.memory().cast("Q")
        found: dict[int, int] = {}
        for first in range(PAGE // 8, len(words), PAGE // 8):
            if words[first + ROLE] == _WORKER:
                pid = words[first + PID]
                found[pid] = max(found.get(pid, 0), words[first + HEARTBEAT])
        return found

    def alive(self, page: int) -> bool:
        """Return whether the slot in `page` belongs to a running process."""
        if page == self._own:
            return True  # a process does not see its own locks
        return is_locked(self.descriptor, page * PAGE)

    def abandon(self, path: Path) -> None:
        """Remove the copy from `path`: an orphaned daemon frees the path for the next one, which may start before its
        end."""
        self._path = None
        with suppress(OSError):
            if self.copied and os.path.samestat(os.fstat(self._copy), os.stat(path)):
                path.unlink()

    def close(self) -> None:
        """Close the descriptors, in a process that does not count or has finished."""
        os.close(self.descriptor)
        if self.copied:
            os.close(self._copy)


def open_copy(path: Path) -> Scoreboard:
    """Open the scoreboard at `path` for reading.  Raises `OSError`."""
    # O_NONBLOCK: open(2) of a FIFO would wait for a writer.
    return Scoreboard(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))


def has_orphans(path: Path) -> bool:
    """Return whether processes of an earlier run still exist, after the end of their first process."""
    try:
        former = open_copy(path)
    except OSError:
        return False
    try:
        pages = os.fstat(former.descriptor).st_size // PAGE
        return not former.alive(1) and any(map(former.alive, range(2, pages)))
    finally:
        former.close()
