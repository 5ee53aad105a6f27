"""From the path of a URL to an open file below a folder, the root, which cannot be left.

A path is walked name by name, each opened from the folder before it (openat(2)), and no symbolic link below the root is
followed, wherever it leads (O_NOFOLLOW).  So there is nothing that is first looked at and then opened by its path: who
renames a folder, or puts a link in its place, changes nothing about where a walk that is under way comes to.  Where the
root itself is, or leads through, a link, that is followed at each request: so a site can be replaced as a whole.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from daemons.web.site.prefix_map import FORBIDDEN, IGNORABLE, Names, names_of

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

#: Without waiting: by then it may be a FIFO, whatever it was when it was looked at.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: What an error of open(2) comes to; any other is not the visitor's affair.
_STATUSES = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.ELOOP: 404,
    errno.ENAMETOOLONG: 404,
    # Some file systems, as exFAT, NTFS, and ext4 with casefold, refuse names that are not UTF-8.
    errno.EINVAL: 404,
    errno.EILSEQ: 404,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    # Another process, as a file server, has a lease on the file (fcntl(2), F_SETLEASE), and is asked to give it up.
    errno.EWOULDBLOCK: 503,
}

#: A dot, or a character that is one once it is normalised (NFKC), perhaps behind some that are ignored.
_HIDDEN = re.compile(f"/[{IGNORABLE}]*[.\u2024\ufe52\uff0e]")

#: Device and inode: the same for every name of a file or directory.
Identity = tuple[int, int]


class Refused(Exception):
    """There is no such file to be had: 404, 403, or for now 503."""

    def __init__(self, status: int, found: os.stat_result | None = None) -> None:
        super().__init__(status)
        self.status = status
        #: The file that exists but cannot be served.
        self.found = found


class Check(Protocol):
    """Decides whether an opened file may be served."""

    def check(self, entered: Sequence[Identity]) -> object:
        """Check the directories entered, the root first; the last of them is still open. Raise an exception of its own
        unless their contents may be served."""


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
    identity: Identity
    #: Number of hard links.
    links: int = 1
    #: Nanoseconds since 1970 when it was last written to, or its metadata was changed: a time that nobody can set.
    changed: int = 0

    def read(self, start: int, length: int) -> bytes:
        """So many octets.  Raises `EOFError`: there are no longer so many."""
        data = os.pread(self.descriptor, length, start)
        if len(data) < length:
            raise EOFError(f"a file has become shorter while it was read: {length} octets at {start} are expected")
        return data


class Folder:
    """A folder at or below the root, to be used in a ``with``."""

    __slots__ = ("_descriptor", "entered")

    def __init__(self, descriptor: int, entered: Sequence[Identity] = ()) -> None:
        self._descriptor = descriptor
        #: The directories from the root to this one; empty where no `Check` asked for them.
        self.entered = entered

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def open(self, name: bytes) -> File:
        """Open a regular file, and nothing else: to open a FIFO or a device may do something to it.  Raises `Refused`,
        and `IsFolder`."""
        found: os.stat_result | None = None
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise IsFolder
            if not stat.S_ISREG(found.st_mode):
                raise Refused(404, found)
            descriptor = os.open(name, _FILE, dir_fd=self._descriptor)
        except OSError as error:
            failure = refused(error)
            if isinstance(failure, Refused):
                failure.found = found
            raise failure from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise Refused(404, found)
        return File(
            descriptor,
            found.st_size,
            found.st_mtime_ns,
            identity_of(found),
            found.st_nlink,
            found.st_ctime_ns,
        )

    def stat(self, name: bytes) -> os.stat_result | None:
        """Return the status of `name`, a symbolic link not followed; None if there is none to be had."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return None

    def kind(self, name: bytes) -> str:
        """What is there: a "file" or a "folder"; nothing where there is neither."""
        found = self.stat(name)
        if found is None:
            return ""  # what is wrong, opening it shows
        mode = found.st_mode
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
        self.root = root
        self._hidden = hidden

    def names(self, path: str) -> Names:
        """The names that lead from the root to what `path`, the path of a URL, means.  The last is empty where it is a
        folder.  Raises `Refused`."""
        names = names_of(path)
        if names is None or (not self._hidden and _has_hidden(b"/" + b"/".join(names))):
            raise Refused(404)
        return names

    def shows(self, name: bytes) -> bool:
        """Whether there can be something of that name for a visitor."""
        if name in (b".", b"..") or (not self._hidden and _has_hidden(b"/" + name)):
            return False
        return not FORBIDDEN.search(name)

    def folder(self, names: Sequence[bytes], gate: Check | None = None) -> Folder:
        """Open the directory to which `names`, as `names()` returns them, lead. If only some of them exist, `gate`
        checks those, so that the response does not disclose the contents of a protected directory. Raises `Refused`.
        """
        descriptor = -1
        entered: list[Identity] = []
        try:
            descriptor = os.open(self.root, _FOLDER)
            if gate is not None:
                entered.append(identity_of(os.fstat(descriptor)))
            for name in names:
                above, descriptor = descriptor, os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(above)
                if gate is not None:
                    entered.append(identity_of(os.fstat(descriptor)))
        except OSError as error:
            try:
                if gate is not None and entered:
                    gate.check(entered)
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
            raise refused(error) from error
        return Folder(descriptor, entered)

    def identity(self, names: Sequence[bytes]) -> Identity | None:
        """Return the identity of the file or directory to which `names` lead, no symbolic link followed; None if there
        is none."""
        try:
            with self.folder(names[:-1]) as folder:
                found = folder.stat(names[-1] if names else b".")
        except (Refused, OSError):
            return None
        return None if found is None else identity_of(found)


def _has_hidden(path: bytes) -> bool:
    """Return whether a name in `path` begins with a dot, or does so to a file system that ignores some characters."""
    return b"/." in path or (not path.isascii() and _HIDDEN.search(path.decode("utf-8", "replace")) is not None)


def identity_of(found: os.stat_result) -> Identity:
    """Return device and inode."""
    return found.st_dev, found.st_ino


def refused(error: OSError, statuses: Mapping[int, int] = _STATUSES) -> Exception:
    """What is to be raised for an error: a `Refused` with its status, or itself."""
    status = statuses.get(error.errno or 0)
    return error if status is None else Refused(status)
