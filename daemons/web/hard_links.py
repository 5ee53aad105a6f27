"""Further names of files below protected directories: hard links, link(2), and bind mounts, mount(8)."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Sequence
from threading import Lock

from daemons.web.files import Identity, identity_of

log = logging.getLogger(__name__)

#: Entries of protected directories that are looked at: some 2 seconds of CPU and, if all have several links, 40 MiB.
MOST = 200_000

#: Seconds for which an index is used; at least 20 times as long as it took to make, so that it never costs more than a
#: twentieth of a core.
FRESH, FACTOR = 1.0, 20

_MOUNTS = "/proc/self/mountinfo"

#: How mountinfo writes blanks, tabs, line ends and backslashes, proc_pid_mountinfo(5).
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Unindexed(Exception):
    """There are too many files below protected directories to find further names of them."""


class LinkIndex:
    """Finds the protected directory of a file that was opened under a name outside of it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = Lock()
        self._mounts: frozenset[Identity] = frozenset()
        self._mounts_until = 0.0
        #: None: there are more than `MOST`.
        self._index: dict[Identity, bytes] | None = None
        self._made = False
        self._until = 0.0

    def other_names(self, entered: Sequence[Identity], file: Identity | None, links: int) -> list[Identity]:
        """Return those of the directories and the file that may have another name elsewhere."""
        if time.monotonic() >= self._mounts_until:
            self._mounts = _mounts_below(self._root)
            self._mounts_until = time.monotonic() + FRESH
        found = [each for each in entered[1:] if each in self._mounts]
        if file is not None and (links > 1 or file in self._mounts):
            found.append(file)
        return found

    def index(self, directories: Iterable[bytes]) -> dict[Identity, bytes]:
        """Return, for each file with several links and each source of a bind mount, the longest of `directories` above
        it. Raises `Unindexed`."""
        # While one thread makes a new index, the others use the old one.
        if self._lock.acquire(blocking=not self._made):
            try:
                start = time.monotonic()
                if start >= self._until:
                    self._index = self._make(sorted(directories, key=len, reverse=True))
                    self._made = True
                    end = time.monotonic()
                    self._until = end + max(FRESH, FACTOR * (end - start))
                    if self._index is None:
                        log.warning("[protected]: more than %d files: others that have several links are refused", MOST)
            finally:
                self._lock.release()
        if self._index is None:
            raise Unindexed
        return self._index

    def _make(self, directories: Iterable[bytes]) -> dict[Identity, bytes] | None:
        index: dict[Identity, bytes] = {}
        left = MOST
        for directory in directories:
            waiting = [directory]
            while waiting:
                try:
                    entries = os.scandir(waiting.pop())
                except OSError:
                    continue  # a file, or nothing that could be served
                with entries:
                    for entry in entries:
                        left -= 1
                        if left < 0:
                            return None
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(os.fsencode(entry.path))
                        try:
                            found = entry.stat(follow_symlinks=False)
                        except OSError:
                            continue  # removed meanwhile
                        identity = identity_of(found)
                        if (found.st_nlink > 1 and entry.is_file(follow_symlinks=False)) or identity in self._mounts:
                            index.setdefault(identity, directory)
        return index


def _mounts_below(root: str) -> frozenset[Identity]:
    """Return the identities of what is mounted below `root`."""
    above = os.path.realpath(os.fsencode(root)).rstrip(b"/") + b"/"
    found = set()
    try:
        with open(_MOUNTS, "rb") as lines:
            points = [_ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4]) for line in lines]
    except FileNotFoundError:
        return frozenset()  # no /proc: the limit of what can be known
    for point in points:
        if point.startswith(above):
            try:
                found.add(identity_of(os.stat(point)))
            except OSError:
                continue  # nobody gets there
    return frozenset(found)
