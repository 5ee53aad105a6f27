"""Stored passwords: scrypt (RFC 7914) for passwords that people choose, salted SHA-256 for random secrets.

A random secret of 128 bits cannot be guessed, so it needs no slow hash, and a service under ``engine = loop`` can
verify it without waiting.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import unicodedata
from typing import NamedTuple, TypeAlias

#: Bytes of a new salt, and of a new hash.
SALT, DIGEST = 16, 32

#: Bytes of scrypt's output that are read: ours, and Werkzeug's, which earlier databases of webapp have.
DIGESTS = (DIGEST, 64)

#: The most memory, in bytes, that one line may demand.
MEMORY = 256 * 1024**2

#: The most work, N times R times P, that one line may demand: thirteen times that of `COST`, or some two seconds.
WORK = 2**23

#: Bytes of a name and of a password, in UTF-8.  Work before the throttle grows with them: the Unicode normalisation of
#: 12 KB of combining marks takes 100 ms, of 256 bytes 50 µs.  64 characters of up to four bytes fit, which is what a
#: name may have, and what NIST SP 800-63B wants to be possible for a password.
LONGEST_NAME, LONGEST_PASSWORD = 256, 256

#: RFC 7617, section 2: no colon and no control characters in a name.  A line that begins with # is a comment.  Nobody
#: types a byte order mark, which is in the middle where files were joined, or sees a blank before the colon.
NAME = re.compile(r"(?=[^:]{1,64}\Z)[^:\x00-\x1f\x7f\ufeff#\s](?:[^:\x00-\x1f\x7f\ufeff]*[^:\x00-\x1f\x7f\ufeff\s])?")

_SCRYPT = re.compile(
    r"scrypt\$(\d{1,8})\$(\d{1,3})\$(\d{1,3})\$([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]+={0,2})", re.ASCII
)
_SHA256 = re.compile(r"sha256\$((?:[0-9a-f]{2}){8,64})\$([0-9a-f]{64})")
#: As earlier releases wrote it.
_FORMER_SHA256 = re.compile(r"((?:[0-9a-f]{2}){8,64}):([0-9a-f]{64})")


class Cost(NamedTuple):
    """The parameters of scrypt."""

    n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes that one computation needs."""
        return 128 * self.r * (self.n + self.p + 2)

    @property
    def work(self) -> int:
        """Block operations of one computation; its time is proportional to them."""
        return self.n * self.r * self.p


#: For new passwords: 16 MiB, and some 0.2 seconds; of the choices in OWASP's Password Storage Cheat Sheet the one with
#: the least memory, since two are computed at a time.
COST = Cost(2**14, 8, 5)


class Scrypt(NamedTuple):
    """The scrypt hash of a password."""

    cost: Cost
    salt: bytes
    digest: bytes

    @property
    def slow(self) -> bool:
        """Whether `matches` takes so long that it must be computed in a thread of its own."""
        return True

    def matches(self, password: bytes) -> bool:
        """Return whether this is the hash of `password`, in constant time."""
        return hmac.compare_digest(_scrypt(password, self.salt, self.cost, len(self.digest)), self.digest)

    def decoy(self, seed: bytes) -> Scrypt:
        """Return a hash of nothing, made of the `DIGEST` bytes of `seed`, that is as slow as this one."""
        return Scrypt(self.cost, bytes(len(self.salt)), (seed * 2)[: len(self.digest)])

    def __str__(self) -> str:
        n, r, p = self.cost
        salt, digest = (base64.b64encode(each).decode("ascii") for each in (self.salt, self.digest))
        return f"scrypt${n}${r}${p}${salt}${digest}"


class SHA256(NamedTuple):
    """The salted SHA-256 hash of a random secret."""

    salt: bytes
    digest: bytes

    @property
    def slow(self) -> bool:
        """As `Scrypt.slow`."""
        return False

    def matches(self, password: bytes) -> bool:
        """As `Scrypt.matches`."""
        return hmac.compare_digest(hashlib.sha256(self.salt + password).digest(), self.digest)

    def decoy(self, seed: bytes) -> SHA256:
        """As `Scrypt.decoy`."""
        return SHA256(bytes(len(self.salt)), seed)

    def __str__(self) -> str:
        return f"sha256${self.salt.hex()}${self.digest.hex()}"


Hash: TypeAlias = Scrypt | SHA256


def hash_password(password: str, cost: Cost = COST) -> Scrypt:
    """Return the hash of a password.  Raises `ValueError` for one that `encoded` refuses."""
    salt = secrets.token_bytes(SALT)
    return Scrypt(cost, salt, _scrypt(encoded(password), salt, cost, DIGEST))


def generate_secret() -> tuple[str, SHA256]:
    """Return a random secret of 128 bits, and its hash."""
    secret, salt = secrets.token_urlsafe(16), secrets.token_bytes(8)
    return secret, SHA256(salt, hashlib.sha256(salt + secret.encode("ascii")).digest())


def normalised(name: str) -> str:
    """Return a name in Unicode's NFC: keyboards differ in how they write an accent (RFC 8265, section 3.4)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def encoded(password: str) -> bytes:
    """Return a password in NFC (RFC 8265, section 4.2.2) and UTF-8.  Raises `ValueError` for one of more than
    `LONGEST_PASSWORD` bytes, before it is normalised, and for one that has no UTF-8."""
    text = password.encode("utf-8")
    if len(text) > LONGEST_PASSWORD:
        raise ValueError(f"a password of {len(text)} bytes; at most {LONGEST_PASSWORD} are expected")
    return text if text.isascii() else unicodedata.normalize("NFC", password).encode("utf-8")


def parse(text: str) -> Hash:
    """Read the hash in a line of a users file.  Raises `ValueError`."""
    if (match := _SHA256.fullmatch(text) or _FORMER_SHA256.fullmatch(text)) is not None:
        return SHA256(bytes.fromhex(match[1]), bytes.fromhex(match[2]))
    match = _SCRYPT.fullmatch(text)
    if match is None:
        raise ValueError(
            "no hash; scrypt$N$R$P$SALT$HASH or sha256$SALT$HASH is expected, as `daemons password` writes"
        )
    cost = Cost(int(match[1]), int(match[2]), int(match[3]))
    check_cost(cost)
    try:
        salt, digest = (base64.b64decode(match[group], validate=True) for group in (4, 5))
    except binascii.Error:
        raise ValueError("a salt or hash that is not base64") from None
    if len(digest) not in DIGESTS:
        raise ValueError(f"a hash of {len(digest)} bytes; {DIGEST} are expected")
    return Scrypt(cost, salt, digest)


def check_cost(cost: Cost) -> None:
    """Raise `ValueError` for parameters that scrypt does not take, or that take too much."""
    # RFC 7914, section 2: N is a power of 2 below 2 ** (128 * r / 8).
    power = cost.n >= 2 and not cost.n & (cost.n - 1) and cost.n.bit_length() <= 16 * cost.r
    if not power or not cost.r or not cost.p or cost.memory > MEMORY or cost.work > WORK:
        expected = f"N a power of 2 below 2 ** (16 * R), up to 256 MiB, and N * R * P up to {WORK} are expected"
        raise ValueError(f"scrypt N={cost.n} R={cost.r} P={cost.p}; {expected}")


def _scrypt(password: bytes, salt: bytes, cost: Cost, size: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=cost.memory + 2**20, dklen=size)
