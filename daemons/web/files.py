"""From the path of a URL to an open file below a folder, the root, which cannot be left.

A path is walked name by name, each opened from the folder before it (openat(2)), and no symbolic link below the root is
followed, wherever it leads (O_NOFOLLOW).  So there is nothing that is first looked at and then opened by its path: who
renames a folder, or puts a link in its place, changes nothing about where a walk that is under way comes to.  Where the
root itself is, or leads through, a link, that is followed at each request: so a site can be replaced as a whole.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from daemons.web.places import FORBIDDEN

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

#: Without waiting: by then it may be a FIFO, whatever it was when it was looked at.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: What an error of open(2) comes to; any other is not the visitor's affair.
_STATUSES = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.ELOOP: 404,
    errno.ENAMETOOLONG: 404,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
}


class Refused(Exception):
    """There is no such file to be had: 404, 403, or for now 503."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class IsFolder(Exception):
    """What was to be opened as a file is a folder."""


class File(NamedTuple):
    """A regular file, open; whoever has it closes its descriptor."""

    descriptor: int
    #: Octets.
    size: int
    #: Nanoseconds since 1970.
    modified: int
    #: What is this file and no other, as long as it exists.
    identity: tuple[int, int]

    def read(self, start: int, length: int) -> bytes:
        """So many octets.  Raises `EOFError`: there are no longer so many."""
        data = os.pread(self.descriptor, length, start)
        if len(data) < length:
            raise EOFError(f"a file has become shorter while it was read: {length} octets at {start} are expected")
        return data


class Folder:
    """A folder at or below the root, to be used in a ``with``."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def open(self, name: bytes) -> File:
        """Open a regular file, and nothing else: to open a FIFO or a device may do something to it.  Raises `Refused`,
        and `IsFolder`."""
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise IsFolder
            if not stat.S_ISREG(found.st_mode):
                raise Refused(404)
            descriptor = os.open(name, _FILE, dir_fd=self._descriptor)
        except OSError as error:
            raise refused(error) from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise Refused(404)
        return File(descriptor, found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino))

    def kind(self, name: bytes) -> str:
        """What is there: a "file" or a "folder"; nothing where there is neither."""
        try:
            mode = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode
        except OSError:
            return ""  # what is wrong, opening it shows
        return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else ""

    def entries(self, most: int) -> list[tuple[bytes, bool]]:
        """The names of its regular files and folders, up to so many, and whether each is a folder.  Raises
        `Refused`."""
        found: list[tuple[bytes, bool]] = []
        try:
            descriptor = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        folder = entry.is_dir(follow_symlinks=False)
                        if folder or entry.is_file(follow_symlinks=False):
                            found.append((os.fsencode(entry.name), folder))
                        if len(found) == most:
                            break
            finally:
                os.close(descriptor)
        except OSError as error:
            raise refused(error) from error
        return sorted(found)


class Files:
    """The files below `root`; unless `hidden`, without those whose names begin with a dot, and what is below such."""

    def __init__(self, root: str, *, hidden: bool = False) -> None:
        self._root = root
        self._hidden = hidden

    def names(self, path: str) -> list[bytes]:
        """The names that lead from the root to what `path`, the path of a URL, means.  The last is empty where it is a
        folder.  Raises `Refused`."""
        first, *parts = path.split("/")
        # Decoded once, and after it was split: an encoded slash separates nothing.
        names = [unquote_to_bytes(part) for part in parts]
        if first or not names or b"" in names[:-1] or not all(map(self.shows, names)):
            raise Refused(404)
        return names

    def shows(self, name: bytes) -> bool:
        """Whether there can be something of that name for a visitor."""
        if name.startswith(b".") and (not self._hidden or name in (b".", b"..")):
            return False
        return not FORBIDDEN.search(name)

    def folder(self, names: list[bytes]) -> Folder:
        """The folder to which `names`, as `names()` returns them, lead.  Raises `Refused`."""
        descriptor = -1
        try:
            descriptor = os.open(self._root, _FOLDER)
            for name in names:
                above, descriptor = descriptor, os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(above)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise refused(error) from error
        return Folder(descriptor)


def refused(error: OSError, statuses: Mapping[int, int] = _STATUSES) -> Exception:
    """What is to be raised for an error: a `Refused` with its status, or itself."""
    status = statuses.get(error.errno or 0)
    return error if status is None else Refused(status)
