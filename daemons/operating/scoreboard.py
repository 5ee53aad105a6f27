"""What a daemon has done and is doing, in memory that its processes share and anybody may read: a
scoreboard, as Apache calls its own, in the file ``run/NAME.metrics``.

    page 0     whose it is, and the names of what follows
    page 1 …   one `Slot` for each process: words of 64 bits that only this process writes

Whoever reads adds the slots up (`daemons.operating.stats`); nobody is asked, so a daemon that hangs can be
read too.

The kernel says who lives: a process holds a POSIX lock on the first octet of its slot, fcntl(2), and loses
it however it dies.  Such a lock also goes when its process closes *any* descriptor of the file, and an mmap
object has one: so in a process that counts, no mapping of this file is closed before the last.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import mmap
import os
import struct
import zlib
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from daemons.operating.slot import BOUNDS, ENDINGS, PAGE, REALS, REFUSALS, ROLES, WORDS, Slot

log = logging.getLogger(__name__)

MAGIC = b"camelot\0"
#: Counts up when a reader made for another can no longer read it.  A new word or ending is no reason: the
#: names are in the file.
FORMAT = 1
#: Magic, format, octets of the text that follows, and their CRC-32.
HEAD = struct.Struct("<8sQQQ")


class _TakenError(Exception):
    """A living process has the first slot of the file that is there."""


class Scoreboard:
    """The file of one daemon.  It grows by a slot when more processes live than ever before."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        #: The page of this process's own slot.
        self._own = 0
        self._maps: list[mmap.mmap] = []

    @classmethod
    def create(cls, path: Path, about: dict[str, Any]) -> Scoreboard:
        """A new one at `path`, where that of an earlier run may lie.  A daemon whose folder cannot be
        written, or where another process keeps score already, counts all the same, but in memory that only
        its own processes see."""
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
        try:
            return cls(_new_file(path, page))
        except _TakenError:
            # As meant, where [fcgi-program] has several processes on one socket.
            log.info(
                "%s: another daemon of this name is running, of which `daemons stats` tells, not of this one", path
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            log.warning("%s: %s; so `daemons stats` cannot tell of this daemon", path, reason)
        descriptor = os.memfd_create("metrics")
        os.write(descriptor, page.ljust(PAGE, b"\0"))
        return cls(descriptor)

    def claim(self, role: str, first: int = 1) -> Slot:
        """The first slot that no living process has, for this process.  Who knows of some that are taken says
        from which on to look: each look is a system call."""
        for page in count(first):
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, page * PAGE)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                continue
            if os.fstat(self.descriptor).st_size < (page + 1) * PAGE:
                # Not only longer: on a full disk, a write into a hole would be a SIGBUS.
                os.posix_fallocate(self.descriptor, page * PAGE, PAGE)
            self._own = page
            return Slot(self, mmap.mmap(self.descriptor, PAGE, offset=page * PAGE), role)
        raise AssertionError

    def memory(self) -> memoryview:
        """All of it, to read."""
        size = os.fstat(self.descriptor).st_size
        if not self._maps or len(self._maps[-1]) < size:
            self._maps.append(mmap.mmap(self.descriptor, size, prot=mmap.PROT_READ))
        return memoryview(self._maps[-1])

    def alive(self, page: int) -> bool:
        """Whether a living process has the slot in `page`."""
        if page == self._own:
            return True  # a process does not see its own locks
        question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, page * PAGE, 1, 0)
        kind: int = struct.unpack("hhqqi4x", fcntl.fcntl(self.descriptor, fcntl.F_GETLK, question))[0]
        return kind != fcntl.F_UNLCK

    def abandon(self, path: Path) -> None:
        """Remove the file from `path`, if it is still there: an orphan leaves it to the next daemon, which may begin
        before this one has ended."""
        with suppress(OSError):
            if os.path.samestat(os.fstat(self.descriptor), os.stat(path)):
                path.unlink()

    def close(self) -> None:
        """In a process that counts nothing, or no more."""
        for each in self._maps:
            # A view that somebody still reads keeps its map until it is done.
            with suppress(BufferError):
                each.close()
        self._maps.clear()
        os.close(self.descriptor)


def has_orphans(path: Path) -> bool:
    """Whether processes of an earlier run live on, of which the first has gone."""
    try:
        former = Scoreboard(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    try:
        pages = os.fstat(former.descriptor).st_size // PAGE
        return not former.alive(1) and any(map(former.alive, range(2, pages)))
    finally:
        former.close()


def _new_file(path: Path, page: bytes) -> int:
    """A descriptor of a new file with `page` in it, put in the place of `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        former = Scoreboard(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        try:
            if former.alive(1):
                raise _TakenError
        finally:
            former.close()
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, PAGE)
        os.pwrite(descriptor, page, 0)
        os.rename(new, path)
    except BaseException:
        os.close(descriptor)
        new.unlink(missing_ok=True)
        raise
    return descriptor
