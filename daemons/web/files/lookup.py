"""Opens the file of a URL path below a root folder.  No path leads outside of the root.

A path is walked name by name: each folder is opened relative to the one above it (openat(2)), and symbolic links below
the root are not followed (O_NOFOLLOW).  There is no time-of-check to time-of-use race: renaming a folder, or replacing
it by a link, does not redirect a walk in progress.  The path of the root itself is resolved at each request, and links
in it are followed, so that a site can be replaced as a whole.
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

#: Non-blocking, since the file may have been replaced by a FIFO after stat(2).
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: Statuses for errors of open(2); other errors are server failures.
_STATUSES = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.ELOOP: 404,
    errno.ENAMETOOLONG: 404,
    # Some file systems, such as exFAT, NTFS, and ext4 with casefold, refuse names that are not UTF-8.
    errno.EINVAL: 404,
    errno.EILSEQ: 404,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    # Another process, such as a file server, has a lease on the file (fcntl(2), F_SETLEASE); the kernel is breaking it.
    errno.EWOULDBLOCK: 503,
}

#: A name that begins with a dot, or with a character that NFKC normalizes to a dot, perhaps after ignorable characters.
_HIDDEN = re.compile(f"/[{IGNORABLE}]*[.\u2024\ufe52\uff0e]")

#: Device and inode: the same for every name of a file or directory.
Identity = tuple[int, int]


class Refused(Exception):
    """A file cannot be served: `status` is 404, 403, or for a temporary failure 503."""

    def __init__(self, status: int, found: os.stat_result | None = None) -> None:
        super().__init__(status)
        self.status = status
        #: The status of a file that exists but cannot be served.
        self.found = found


class Check(Protocol):
    """Decides whether an opened file may be served."""

    def check(self, entered: Sequence[Identity]) -> object:
        """Raise an exception unless files in the directories `entered` may be served.  The root comes first, and the
        last directory is still open."""


class IsFolder(Exception):
    """The file to open is a folder."""


class File(NamedTuple):
    """An open regular file.  Its owner closes the descriptor."""

    descriptor: int
    #: Bytes.
    size: int
    #: Nanoseconds since 1970.
    modified: int
    #: Unique while the file exists.
    identity: Identity
    #: Number of hard links.
    links: int = 1
    #: The last change of contents or metadata (ctime), in nanoseconds since 1970.  Unlike `modified` it cannot be set.
    changed: int = 0

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`.  Raises `EOFError` if the file has become shorter."""
        data = os.pread(self.descriptor, length, start)
        if len(data) < length:
            raise EOFError(f"a file was truncated while it was read: {length} bytes at offset {start} are expected")
        return data


class Folder:
    """An open folder at or below the root.  A context manager that closes it."""

    __slots__ = ("_descriptor", "entered")

    def __init__(self, descriptor: int, entered: Sequence[Identity] = ()) -> None:
        self._descriptor = descriptor
        #: Identities of the directories from the root to this one; empty without a `Check`.
        self.entered = entered

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def open(self, name: bytes) -> File:
        """Open a regular file.  Special files are not opened, since opening a FIFO or a device has side effects.
        Raises `Refused` and `IsFolder`."""
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
        """Return the result of lstat(2) for `name`; None if it fails."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return None

    def identity(self, name: bytes) -> Identity | None:
        """Return the identity of `name`; None if it does not exist.  Raises as `refused`."""
        try:
            return identity_of(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False))
        except OSError as error:
            raise refused(error) from error

    def kind(self, name: bytes) -> str:
        """Return "file" or "folder"; empty for anything else, or if `name` does not exist."""
        found = self.stat(name)
        if found is None:
            return ""
        mode = found.st_mode
        return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else ""

    def entries(self, most: int) -> list[tuple[bytes, bool]]:
        """Return the names of at most `most` regular files and folders, and whether each is a folder.  Raises
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
    """The files below `root`.  Unless `hidden`, without paths in which a name begins with a dot."""

    def __init__(self, root: str, *, hidden: bool = False) -> None:
        self.root = root
        self._hidden = hidden

    def names(self, path: str) -> Names:
        """Return the names of a URL path, from the root; the last is empty if the path ends with a slash.  Raises
        `Refused`."""
        names = names_of(path)
        if names is None or (not self._hidden and _has_hidden(b"/" + b"/".join(names))):
            raise Refused(404)
        return names

    def shows(self, name: bytes) -> bool:
        """Return whether a file of that name can be served."""
        if name in (b".", b"..") or (not self._hidden and _has_hidden(b"/" + name)):
            return False
        return not FORBIDDEN.search(name)

    def folder(self, names: Sequence[bytes], gate: Check | None = None) -> Folder:
        """Open the directory at `names`, as `names()` returns them.

        If only some of the directories exist, `gate` checks those, so that the response does not disclose the contents
        of a protected directory. Raises `Refused`."""
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
        """Return the identity of the file or directory at `names`, without following symbolic links; None if it does
        not exist, or no file can be opened there.  Raises `Refused` (503) if no descriptors are left."""
        try:
            with self.folder(names[:-1]) as folder:
                return folder.identity(names[-1] if names else b".")
        except Refused as refusal:
            if refusal.status == 503:
                raise
        except OSError:
            pass
        return None


def _has_hidden(path: bytes) -> bool:
    """Return whether a name in `path` begins with a dot, also after characters that some file systems ignore."""
    return b"/." in path or (not path.isascii() and _HIDDEN.search(path.decode("utf-8", "replace")) is not None)


def identity_of(found: os.stat_result) -> Identity:
    """Return device and inode."""
    return found.st_dev, found.st_ino


def refused(error: OSError, statuses: Mapping[int, int] = _STATUSES) -> Exception:
    """Return the exception to raise for an `OSError`: `Refused` if it has a status, else the error itself."""
    status = statuses.get(error.errno or 0)
    return error if status is None else Refused(status)
