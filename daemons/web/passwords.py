"""Users and their passwords, in a file: a line for each, ``NAME:scrypt$N$R$P$SALT$HASH``.

What is stored cannot be turned back, and is dear to guess: scrypt (RFC 7914) takes time and memory on purpose.  Its
parameters stand in each line, so that they can be raised, and old lines stay good.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import re
import secrets
import unicodedata
from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple

log = logging.getLogger(__name__)

#: Octets.
SALT, DIGEST = 16, 32

#: The most memory that a line may ask for.
MEMORY = 256 * 1024**2

#: How many passwords are verified at a time in one process: each takes a core and its memory.
AT_A_TIME = BoundedSemaphore(2)

#: How many are verified or wait for that: half of a pool's threads.  The other half is for the visitors who are known
#: already, and are not to wait for who guesses.
IN_ALL = BoundedSemaphore(8)

#: How many verified passwords are remembered; then all are forgotten, and verified once more.
REMEMBERED = 1024

#: RFC 7617, section 2: no colon, no control characters.
NAME = re.compile(r"[^:\x00-\x1f\x7f#\s][^:\x00-\x1f\x7f]{0,63}")

_LINE = re.compile(r"scrypt\$(\d{1,8})\$(\d{1,3})\$(\d{1,3})\$([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]+={0,2})")


class Cost(NamedTuple):
    """The parameters of scrypt.  Memory: 128 times `n` times `r` octets."""

    n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Octets."""
        return 128 * self.r * (self.n + self.p + 2)


#: For new passwords: 16 MiB, and some 0.2 seconds; of OWASP's choices (Password Storage Cheat Sheet) the one with the
#: least memory, since several may be verified at a time.
COST = Cost(2**14, 8, 5)


class Stored(NamedTuple):
    """What is kept of a password."""

    cost: Cost
    salt: bytes
    digest: bytes

    def __str__(self) -> str:
        n, r, p = self.cost
        salt, digest = (base64.b64encode(each).decode("ascii") for each in (self.salt, self.digest))
        return f"scrypt${n}${r}${p}${salt}${digest}"


def stored(password: str, cost: Cost = COST) -> Stored:
    """What is to be kept of a new password."""
    salt = secrets.token_bytes(SALT)
    return Stored(cost, salt, _digest(password, salt, cost))


def parse(text: str) -> Stored:
    """What a line has behind the name.  Raises `ValueError`."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError("not scrypt$N$R$P$SALT$HASH; `daemons password` writes it")
    cost = Cost(int(match[1]), int(match[2]), int(match[3]))
    # RFC 7914, section 2: N is a power of 2 below 2 ** (128 * r / 8).
    power = cost.n >= 2 and not cost.n & (cost.n - 1) and cost.n.bit_length() <= 16 * cost.r
    if not power or not cost.r or not 0 < cost.p <= 64 or cost.memory > MEMORY:
        expected = "N a power of 2 below 2 ** (16 * R), and up to 256 MiB are expected"
        raise ValueError(f"scrypt N={cost.n} R={cost.r} P={cost.p}; {expected}")
    try:
        salt, digest = (base64.b64decode(match[group], validate=True) for group in (4, 5))
    except binascii.Error:
        raise ValueError("a salt or hash that is not base64") from None
    if len(digest) != DIGEST:
        raise ValueError(f"a hash of {len(digest)} octets; {DIGEST} are expected")
    return Stored(cost, salt, digest)


def normalised(text: str) -> str:
    """As it is compared: keyboards differ in how they write an accent (RFC 8265, section 4.2.2)."""
    return unicodedata.normalize("NFC", text)


def read(path: str | Path) -> dict[str, Stored]:
    """The users in a file.  Raises `OSError`, and `ValueError` that names the line."""
    users: dict[str, Stored] = {}
    # Not splitlines(), which knows line ends that may stand in a name.
    for number, line in enumerate(Path(path).read_text("utf-8").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.partition(":")
        if not NAME.fullmatch(name):
            raise ValueError(f"line {number}: not NAME:HASH")
        try:
            if normalised(name) in users:
                raise ValueError(f"{name} stands here twice")
            users[normalised(name)] = parse(text.strip())
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return users


def _digest(password: str, salt: bytes, cost: Cost) -> bytes:
    octets = normalised(password).encode("utf-8")
    return hashlib.scrypt(octets, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=cost.memory + 2**20, dklen=DIGEST)


class Unreadable(Exception):
    """The file of the users cannot be read, so that nobody can be let in."""


class Busy(Exception):
    """There are too many passwords to be verified."""


class Users:
    """The users in a file, which is read anew when it has changed.

    What was verified is remembered, since a page with thirty pictures is thirty requests, each of which would take
    scrypt's fifth of a second.  It is remembered as an HMAC under a key that this process has drawn and nobody else
    has: so what is kept in memory is of no use to who gets to see it, not even to find out whether two users have one
    password.  The line of the file is part of it, so that a changed password is no longer known."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._key = secrets.token_bytes(DIGEST)
        self._known: set[bytes] = set()
        #: What the file was when it was read, and what was in it; together, since several threads may read it.
        self._read: tuple[tuple[int, ...], dict[str, Stored]] = (), {}
        #: What was wrong with it.
        self._wrong = ""

    def admit(self, name: str, password: str) -> bool:
        """Whether that is the password of that user.  An unknown name takes as long as a wrong password, so that
        nobody finds out who there is.  Raises `Unreadable` and `Busy`."""
        users = self._current()
        kept = users.get(normalised(name))
        if kept is None:
            cost = max((each.cost for each in users.values()), default=COST)
            kept = Stored(cost, bytes(SALT), secrets.token_bytes(DIGEST))
        said = f"{kept}\0{normalised(name)}\0{normalised(password)}"
        proof = hmac.digest(self._key, said.encode("utf-8"), "sha256")
        if proof in self._known:
            return True
        if not IN_ALL.acquire(blocking=False):
            raise Busy
        try:
            with AT_A_TIME:
                right = hmac.compare_digest(_digest(password, kept.salt, kept.cost), kept.digest)
        finally:
            IN_ALL.release()
        if right:
            if len(self._known) >= REMEMBERED:
                self._known = set()
            self._known.add(proof)
        return right

    def _current(self) -> dict[str, Stored]:
        try:
            found = os.stat(self._path)
            mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            before, users = self._read
            if mark != before:
                users = read(self._path)
                self._read = mark, users
                self._wrong = ""
        except (OSError, ValueError) as error:
            # Whom a mistake in it has left out must not be let in, so nobody is.
            wrong = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
            if wrong != self._wrong:
                log.error("%s: %s; nobody is let in", self._path, wrong)
            self._wrong = wrong or "unreadable"
            self._read = (), {}
            raise Unreadable from None
        return users
