"""Stored passwords: scrypt (RFC 7914) for passwords chosen by people, salted SHA-256 for random secrets.

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

#: Accepted lengths of scrypt's output in bytes: ours, and Werkzeug's, which earlier databases of webapp contain.
DIGESTS = (DIGEST, 64)

#: Maximum memory, in bytes, that the hash in one line may require.
MEMORY = 256 * 1024**2

#: Maximum work, N times R times P, that the hash in one line may require: 13 times that of `COST`, or some two seconds.
WORK = 2**23

#: Maximum bytes of a name and of a password, in UTF-8.  64 characters of up to four bytes fit: the maximum of a
#: name, and what NIST SP 800-63B requires verifiers to allow in a password.
LONGEST_NAME, LONGEST_PASSWORD = 256, 256

#: How many times as many bytes a text may have in another form, such as NFD, as in NFC.  The product bounds the work
#: before the throttle: the Unicode normalization of 12 KB of combining marks takes 100 ms, of 768 bytes 0.2 ms.
DECOMPOSED = 3

#: RFC 7617, section 2: no colon and no control characters in a name.  A line that begins with # is a comment.  A byte
#: order mark occurs inside a file where files were joined, and a space before the colon is invisible: both are refused.
NAME = re.compile(r"(?=[^:]{1,64}\Z)[^:\x00-\x1f\x7f\ufeff#\s](?:[^:\x00-\x1f\x7f\ufeff]*[^:\x00-\x1f\x7f\ufeff\s])?")

_SCRYPT = re.compile(
    r"scrypt\$(\d{1,8})\$(\d{1,3})\$(\d{1,3})\$([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]+={0,2})", re.ASCII
)
_SHA256 = re.compile(r"sha256\$((?:[0-9a-f]{2}){8,64})\$([0-9a-f]{64})")
#: Format of earlier releases.
_FORMER_SHA256 = re.compile(r"((?:[0-9a-f]{2}){8,64}):([0-9a-f]{64})")


class Cost(NamedTuple):
    """The parameters of scrypt."""

    n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes of memory for one computation."""
        return 128 * self.r * (self.n + self.p + 2)

    @property
    def work(self) -> int:
        """Block operations of one computation, to which its time is proportional."""
        return self.n * self.r * self.p


#: Cost of new passwords: 16 MiB and some 0.2 seconds.  Of the choices in OWASP's Password Storage Cheat Sheet it takes
#: the least memory, since two hashes are computed at a time.
COST = Cost(2**14, 8, 5)


class Scrypt(NamedTuple):
    """The scrypt hash of a password."""

    cost: Cost
    salt: bytes
    digest: bytes

    @property
    def slow(self) -> bool:
        """Whether `matches` is slow enough to need a thread of its own."""
        return True

    def matches(self, password: bytes) -> bool:
        """Return whether this is the hash of `password`, in constant time."""
        return hmac.compare_digest(_scrypt(password, self.salt, self.cost, len(self.digest)), self.digest)

    def decoy(self, seed: bytes) -> Scrypt:
        """Return a hash of no password, derived from the `DIGEST` bytes of `seed`, with the cost of this one."""
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
    """Return the hash of a password.  Raises `ValueError` if `encoded` refuses it."""
    salt = secrets.token_bytes(SALT)
    return Scrypt(cost, salt, _scrypt(encoded(password), salt, cost, DIGEST))


def generate_secret() -> tuple[str, SHA256]:
    """Return a random secret of 128 bits, and its hash."""
    secret, salt = secrets.token_urlsafe(16), secrets.token_bytes(8)
    return secret, SHA256(salt, hashlib.sha256(salt + secret.encode("ascii")).digest())


def normalized(name: str) -> str:
    """Return a name in Unicode NFC, since keyboards differ in how they compose accents (RFC 8265, section 3.4)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def bounded(text: str, longest: int, what: str) -> bytes:
    """Return a text in NFC and UTF-8.  Raises `ValueError` for text that cannot be encoded, and for more than `longest`
    bytes both as it is and in NFC; a text that is too long in any form is not normalized."""
    data = text.encode("utf-8")
    normal = data
    if not data.isascii() and len(data) <= DECOMPOSED * longest:
        normal = unicodedata.normalize("NFC", text).encode("utf-8")
    if min(len(data), len(normal)) > longest:
        raise ValueError(f"a {what} of {len(normal)} bytes; expected at most {longest}")
    return normal


def encoded(password: str) -> bytes:
    """Return a password in NFC (RFC 8265, section 4.2.2) and UTF-8.  Raises `ValueError` as `bounded`."""
    return bounded(password, LONGEST_PASSWORD, "password")


def parse(text: str) -> Hash:
    """Parse the hash in a line of a users file.  Raises `ValueError`."""
    if (match := _SHA256.fullmatch(text) or _FORMER_SHA256.fullmatch(text)) is not None:
        return SHA256(bytes.fromhex(match[1]), bytes.fromhex(match[2]))
    match = _SCRYPT.fullmatch(text)
    if match is None:
        raise ValueError(
            "not a hash; expected scrypt$N$R$P$SALT$HASH or sha256$SALT$HASH, as written by `daemons password`"
        )
    cost = Cost(int(match[1]), int(match[2]), int(match[3]))
    check_cost(cost)
    try:
        salt, digest = (base64.b64decode(match[group], validate=True) for group in (4, 5))
    except binascii.Error:
        raise ValueError("the salt or the hash is not base64") from None
    if len(digest) not in DIGESTS:
        raise ValueError(f"a hash of {len(digest)} bytes; expected {DIGEST}")
    return Scrypt(cost, salt, digest)


def check_cost(cost: Cost) -> None:
    """Raise `ValueError` for scrypt parameters that are invalid or above the limits."""
    # RFC 7914, section 2: N is a power of 2 below 2 ** (128 * r / 8).
    power = cost.n >= 2 and not cost.n & (cost.n - 1) and cost.n.bit_length() <= 16 * cost.r
    if not power or not cost.r or not cost.p or cost.memory > MEMORY or cost.work > WORK:
        expected = f"expected N a power of 2 below 2 ** (16 * R), up to 256 MiB, and N * R * P up to {WORK}"
        raise ValueError(f"scrypt N={cost.n} R={cost.r} P={cost.p}; {expected}")


def _scrypt(password: bytes, salt: bytes, cost: Cost, size: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=cost.memory + 2**20, dklen=size)
