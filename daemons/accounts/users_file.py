"""The users file: one line ``NAME:HASH`` per user, comments with #, UTF-8 with or without a byte order mark."""

from __future__ import annotations

import io
import logging
import os
import stat
import time
from collections.abc import Mapping

from daemons.accounts.hashes import NAME, Hash, normalized, parse

log = logging.getLogger(__name__)

#: Maximum size of the file in bytes: some hundred thousand users.
LARGEST = 16 * 1024**2


class Unreadable(Exception):
    """The users file is missing or invalid, so no request is accepted."""


class Users(dict[str, Hash]):
    """The users in one version of the file, by normalized name."""

    def __init__(self, users: Mapping[str, Hash]) -> None:
        super().__init__(users)
        #: The hash of each user, from which decoys are chosen.
        self.hashes = tuple(users.values())

    @property
    def slow(self) -> bool:
        """Whether any hash takes long to compute."""
        return any(each.slow for each in self.hashes)


def parse_lines(text: str) -> Users:
    """Parse the text of a users file.  Raises `ValueError` that gives the line number."""
    users: dict[str, Hash] = {}
    # Not splitlines(), which also splits at characters that are allowed in a name.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            if not NAME.fullmatch(name):
                raise ValueError("no valid name; expected NAME:HASH, as written by `daemons password`")
            if normalized(name) in users:
                raise ValueError(f"duplicate user {name}")
            users[normalized(name)] = parse(rest.strip())
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return Users(users)


def read_text(path: str | os.PathLike[str], *, private: bool = False) -> str:
    """Return the text of a users file, with ``\\n`` as line ends.  Raises `OSError`, and `ValueError` if it is not a
    text file of up to `LARGEST` bytes; with `private`, also if every user of the machine may read it."""
    # Non-blocking, in case it is a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("not a regular file")
        if private and mode & 0o007:
            raise ValueError(f"mode {stat.S_IMODE(mode):04o} lets every user of this machine read it; use chmod 640")
        content = os.read(descriptor, LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    try:
        # Editors on Windows write a byte order mark and CRLF line ends.
        return io.TextIOWrapper(io.BytesIO(content), "utf-8-sig").read()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def read(path: str | os.PathLike[str]) -> Users:
    """Return the users in a file.  Raises `OSError`, and `ValueError` for an invalid line, for a file that every user
    of the machine may read, and for a file without users."""
    users = parse_lines(read_text(path, private=True))
    if not users:
        raise ValueError("no users; add one with `daemons password FILE NAME`")
    return users


def complaint(path: str, error: OSError | ValueError) -> str:
    """Return a one-line description of an exception raised by `read`."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file; create it with `daemons password {path} NAME`"
    if isinstance(error, OSError):
        return f"{path}: {(error.strerror or str(error)).lower()}"
    return f"{path}: {error}"


def checked(path: str) -> Users:
    """As `read`, for a setting: raises `ValueError` only, with the path."""
    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise ValueError(complaint(path, error)) from None


class UsersFile:
    """A users file that is read again after a change.  Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Absolute, since the daemon changes its working directory.
        self._place = os.path.abspath(path)
        #: The file's stat(2) result when it was read, its users, and the monotonic time of the last check; replaced
        #: together, since several threads may read the file at once.
        self._state: tuple[tuple[int, ...], Users, float] = (), Users({}), float("-inf")
        self._wrong = ""
        #: The stat(2) result of an invalid file, which is not parsed again until it changes.
        self._wrong_mark: tuple[int, ...] = ()

    def users(self, max_age: float = 0.0) -> Users:
        """Return the users, which with `max_age` may be up to that many seconds out of date.

        Raises `Unreadable` for a missing or invalid file.  A mistake may have removed any user, so no one is accepted
        until it is corrected.  Each mistake is logged once."""
        now = time.monotonic()
        found: tuple[int, ...] = ()
        mark, users, seen = self._state
        if now - seen < max_age:
            return users
        try:
            about = os.stat(self._place)
            found = (about.st_dev, about.st_ino, about.st_size, about.st_mode, about.st_mtime_ns, about.st_ctime_ns)
            if found == self._wrong_mark:
                raise Unreadable
            if found != mark:
                users = read(self._place)
                self._wrong = ""
            self._state = found, users, now
        except (OSError, ValueError) as error:
            wrong = complaint(self._path, error)
            if wrong != self._wrong:
                log.error("users file unreadable, all requests denied: %s", wrong)
            self._wrong = wrong
            # After an error of open(2) or read(2), the next attempt may succeed without a change of stat(2).
            self._wrong_mark = () if isinstance(error, OSError) else found
            self._state = (), Users({}), float("-inf")
            raise Unreadable from None
        return users
