"""The users file: a line ``NAME:HASH`` for each user, comments with #, UTF-8 with or without a byte order mark."""

from __future__ import annotations

import io
import logging
import os
import stat
import time
from collections.abc import Mapping

from daemons.accounts.hashes import NAME, Hash, normalised, parse

log = logging.getLogger(__name__)

#: Bytes of the largest file that is read: some hundred thousand users.
LARGEST = 16 * 1024**2


class Unreadable(Exception):
    """The users file cannot be read, so that no request is accepted."""


class Users(dict[str, Hash]):
    """The users of one state of the file, by normalised name."""

    def __init__(self, users: Mapping[str, Hash]) -> None:
        super().__init__(users)
        #: One hash for each user, to choose decoys from.
        self.hashes = tuple(users.values())

    @property
    def slow(self) -> bool:
        """Whether a user has a hash that takes long to compute."""
        return any(each.slow for each in self.hashes)


def parse_lines(text: str) -> Users:
    """Read the text of a users file.  Raises `ValueError` that names the line."""
    users: dict[str, Hash] = {}
    # Not splitlines(), which knows line ends that may stand in a name.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            if not NAME.fullmatch(name):
                raise ValueError("no name; NAME:HASH is expected, as `daemons password` writes")
            if normalised(name) in users:
                raise ValueError(f"{name} has another line already")
            users[normalised(name)] = parse(rest.strip())
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return Users(users)


def read_text(path: str | os.PathLike[str], *, private: bool = False) -> str:
    """Return the text of a users file, with ``\\n`` for line ends.  Raises `OSError`, and `ValueError` for anything
    but a text file of up to `LARGEST` bytes; with `private`, also for one that every user of the machine may read."""
    # Not blocking: it might be a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("not a regular file")
        if private and mode & 0o007:
            raise ValueError(f"mode {stat.S_IMODE(mode):04o} lets every user of this machine read it; chmod 640")
        content = os.read(descriptor, LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    try:
        # Editors on Windows begin a file with a byte order mark, and end lines with two characters.
        return io.TextIOWrapper(io.BytesIO(content), "utf-8-sig").read()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def read(path: str | os.PathLike[str]) -> Users:
    """Return the users in a file.  Raises `OSError`, and `ValueError` that names the line and the form expected there;
    also for a file that every user of the machine may read, and for one without a user."""
    users = parse_lines(read_text(path, private=True))
    if not users:
        raise ValueError("no user in it; `daemons password FILE NAME` adds one")
    return users


def complaint(path: str, error: OSError | ValueError) -> str:
    """Return the one line that describes an exception of `read`."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file; `daemons password {path} NAME` makes it"
    if isinstance(error, OSError):
        return f"{path}: {(error.strerror or str(error)).lower()}"
    return f"{path}: {error}"


def checked(path: str) -> Users:
    """As `read`, for a setting: raises `ValueError` alone, which names the file."""
    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise ValueError(complaint(path, error)) from None


class UsersFile:
    """A users file that is read again when it has changed.  From any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        # The daemon's working folder may change before the file is read again.
        self._place = os.path.abspath(path)
        #: What stat(2) said of the file when it was read, its users, and when (monotonic) that was last seen to hold;
        #: replaced together, since several threads may read the file at once.
        self._state: tuple[tuple[int, ...], Users, float] = (), Users({}), float("-inf")
        self._wrong = ""
        #: As in `_state`, of a file whose text is wrong: it need not be read for each request.
        self._wrong_mark: tuple[int, ...] = ()

    def users(self, max_age: float = 0.0) -> Users:
        """Return the users; with `max_age`, those that the file had up to so many seconds ago.

        Raises `Unreadable` for a file that is missing or wrong.  A mistake may have left out any user, so none is
        accepted until it is corrected; a line in the log says so, once for each mistake."""
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
            # A file that cannot be opened may be readable with the next request, for all stat(2) says.
            self._wrong_mark = () if isinstance(error, OSError) else found
            self._state = (), Users({}), float("-inf")
            raise Unreadable from None
        return users
