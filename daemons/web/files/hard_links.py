"""Further names of files below protected directories: hard links, link(2), and bind mounts, mount(8)."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

from daemons.web.files.lookup import Identity, identity_of

log = logging.getLogger(__name__)

#: Maximum entries of protected directories in an index: some 2 seconds of CPU and, if all have several links, 40 MiB.
MOST = 200_000

#: An index is used for `FRESH` seconds, or for `FACTOR` times the seconds that its creation took, if that is longer.
#: So creating indexes takes at most a twentieth of a core.
FRESH, FACTOR = 1.0, 20

_MOUNTS = "/proc/self/mountinfo"

#: Octal escapes in mountinfo: spaces, tabs, line ends and backslashes, proc_pid_mountinfo(5).
_ESCAPED = re.compile(rb"\\([0-7]{3})")


#: Errors of an entry that was removed, or of a directory that was removed or replaced by a file.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


class Unindexed(Exception):
    """Further names of files below protected directories cannot be found: there are too many files, or a directory
    cannot be read."""


class LinkIndex:
    """Finds the protected directory of a file that was opened under a name outside of it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = Lock()
        self._mounts: frozenset[Identity] = frozenset()
        self._mounts_until = 0.0
        #: The root and the protected files for which mounts and index were made.
        self._mounts_of: Identity | None = None
        self._made_of: frozenset[Identity] = frozenset()
        #: None if the index could not be created.
        self._index: dict[Identity, bytes] | None = None
        self._made = False
        self._until = 0.0

    def other_names(self, entered: Sequence[Identity], file: Identity | None, links: int) -> list[Identity]:
        """Return those of the directories `entered` and the `file` that may have a further name elsewhere."""
        root = entered[0] if entered else None
        if root != self._mounts_of or time.monotonic() >= self._mounts_until:
            self._mounts = _mounts_below(self._root)
            self._mounts_of = root
            self._mounts_until = time.monotonic() + FRESH
        found = [each for each in entered[1:] if each in self._mounts]
        if file is not None and (links > 1 or file in self._mounts):
            found.append(file)
        return found

    def index(self, directories: Iterable[bytes], found: frozenset[Identity]) -> dict[Identity, bytes]:
        """Return a map from the identities of files with several links, and of sources of bind mounts, to the nearest
        of `directories` above each.

        `found` are the identities of the directories that exist. If they have changed, as when the root is replaced, a
        new index is created at once. Raises `Unindexed`."""
        # While one thread creates a new index, the others use the old one.
        if self._lock.acquire(blocking=not self._made or found != self._made_of):
            try:
                start = time.monotonic()
                if start >= self._until or found != self._made_of:
                    try:
                        self._index = self._make(sorted(directories, key=len, reverse=True))
                    except (Unindexed, OSError) as error:
                        self._index = None
                        log.warning(
                            "[protected]: %s: files with several links outside of protected directories are refused",
                            error,
                        )
                    self._made = True
                    self._made_of = found
                    end = time.monotonic()
                    self._until = end + max(FRESH, FACTOR * (end - start))
            finally:
                self._lock.release()
        if self._index is None:
            raise Unindexed
        return self._index

    def _make(self, directories: Iterable[bytes]) -> dict[Identity, bytes]:
        """Create an index. Raises `Unindexed`, and `OSError` for a directory that cannot be read although its files can
        be served, or if no descriptors are left."""
        index: dict[Identity, bytes] = {}
        left = MOST
        for directory in directories:
            waiting = [directory]
            while waiting:
                with _entries(waiting.pop()) as entries:
                    for entry in entries:
                        left -= 1
                        if left < 0:
                            raise Unindexed(f"more than {MOST} files")
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(os.fsencode(entry.path))
                        try:
                            found = entry.stat(follow_symlinks=False)
                        except OSError as error:
                            if error.errno in _NOT_THERE:
                                continue  # it was removed meanwhile
                            raise
                        identity = identity_of(found)
                        if (found.st_nlink > 1 and entry.is_file(follow_symlinks=False)) or identity in self._mounts:
                            index.setdefault(identity, directory)
        return index


@contextmanager
def _entries(directory: bytes) -> Iterator[Iterable[os.DirEntry[bytes]]]:
    """Yield the entries of a directory.  Yield none if it does not exist, is a file, or may not be searched: then the
    daemon cannot serve its files either.  Raises `OSError`."""
    try:
        entries = os.scandir(directory)
    except OSError as error:
        closed = error.errno == errno.EACCES and not os.access(directory, os.X_OK, effective_ids=True)
        if error.errno not in _NOT_THERE and not closed:
            raise
        yield ()
    else:
        with entries:
            yield entries


def _mounts_below(root: str) -> frozenset[Identity]:
    """Return the identities of the mount points below `root`."""
    above = os.path.realpath(os.fsencode(root)).rstrip(b"/") + b"/"
    found = set()
    try:
        with open(_MOUNTS, "rb") as lines:
            points = [_ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4]) for line in lines]
    except FileNotFoundError:
        return frozenset()  # without /proc, mount points are unknown
    for point in points:
        if point.startswith(above):
            try:
                found.add(identity_of(os.stat(point)))
            except OSError:
                continue  # it cannot be reached
    return frozenset(found)
