"""Accounts: verification of names and passwords, for any protocol."""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections import OrderedDict
from enum import Enum
from threading import Lock
from typing import NamedTuple

from daemons.accounts import verifier
from daemons.accounts.hashes import DIGEST, LONGEST_NAME, Hash, bounded, encoded
from daemons.accounts.throttle import Throttle
from daemons.accounts.users_file import Unreadable, Users, UsersFile
from daemons.accounts.verifier import Busy
from daemons.serving.guards.networks import peer_network

log = logging.getLogger(__name__)

#: Maximum number of cached verified credentials, and seconds since their last use.
REMEMBERED, IDLE = 1024, 3600.0

#: Maximum number of cached refusals, each for one repeated request, and seconds that they are kept.
REFUSALS, FRESH = 64, 60.0

#: Seconds for Retry-After if the file is invalid, which takes a person to correct.
WRONG_FILE = 60

#: Maximum delay in seconds until `Accounts.version` reflects a change of the file.
NOTICED = 1.0


class Outcome(Enum):
    """The decision on a name and a password."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    BUSY = "busy"


ACCEPTED, REFUSED, BUSY = Outcome


class Verdict(NamedTuple):
    """The outcome; if accepted, the user's name as in the file; if busy, the seconds after which to retry."""

    outcome: Outcome
    user: str = ""
    retry_after: int = 0


class Accounts:
    """The users of one file.  Thread-safe, and usable in child processes.

    Verified credentials are cached, since a page with thirty pictures is thirty requests, each of which would take
    scrypt's fifth of a second.  The cache holds an HMAC under a random key of this object, so a copy of the process's
    memory helps neither to guess passwords nor to find equal ones.  The HMAC covers the stored hash, so a changed
    password is no longer found."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = UsersFile(path)
        self._throttle = Throttle()
        self._key = secrets.token_bytes(DIGEST)
        self._lock = Lock()
        #: HMAC of credentials, and the monotonic time of their last use or refusal.
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self._refused: OrderedDict[bytes, float] = OrderedDict()

    @property
    def version(self) -> object:
        """An object that is replaced when the users change, which invalidates earlier decisions.  A change is reflected
        within `NOTICED` seconds."""
        try:
            return self._file.users(NOTICED)
        except Unreadable:
            return None

    @property
    def slow(self) -> bool:
        """Whether the file has a hash that takes long to compute."""
        try:
            return self._file.users(NOTICED).slow
        except Unreadable:
            return False

    def stored(self, name: str, *, fresh: bool = False) -> str:
        """Return the stored hash of the user `name` as text, which a change of the password replaces; empty for an
        unknown name.  Up to `NOTICED` seconds out of date, unless `fresh`."""
        try:
            name = bounded(name, LONGEST_NAME, "name").decode("utf-8")
            return str(self._file.users(0.0 if fresh else NOTICED).get(name, ""))
        except (Unreadable, ValueError):
            return ""

    def check(self, name: str, password: str, peer: str) -> Verdict:
        """Decide whether `password` is that of the user `name`.  Raises nothing.

        Attempts are limited by `peer`, an IP address or another identifier.  An unknown name takes as long as a wrong
        password.  Waits for a slow hash, unless no thread may wait (`Verifier.waiting`); then the verdict is busy until
        the hash is computed."""
        try:
            name, data = bounded(name, LONGEST_NAME, "name").decode("utf-8"), encoded(password)
        except ValueError:  # too long, or an unpaired surrogate
            return Verdict(REFUSED)
        try:
            users = self._file.users()
        except Unreadable:
            return Verdict(BUSY, retry_after=WRONG_FILE)
        decoy = self._decoy(users, name)
        stored = users.get(name, decoy)
        known = name in users
        # Unambiguous encoding: the name of a user contains no NUL.
        question = f"{stored}\0{name}\0".encode() + data
        proof = hmac.digest(self._key, question if known else b"\0" + question, "sha256")
        if self._remembers(proof):
            return Verdict(ACCEPTED, name)
        if self._was_refused(proof):
            return Verdict(REFUSED)
        return self._verify(proof, name, data, stored, peer_network(peer), known=known)

    def _verify(self, proof: bytes, name: str, password: bytes, stored: Hash, network: str, *, known: bool) -> Verdict:
        def admit() -> None:
            if seconds := self._throttle.take(network, name, slow=stored.slow):
                raise Busy(seconds)

        def matches() -> bool:
            return stored.matches(password) and known

        def done(matched: bool) -> None:
            if matched:
                self._throttle.give_back(network, name)
                self._keep(self._verified, proof, REMEMBERED)
            elif stored.slow and not verifier.shared.waiting:
                self._keep(self._refused, proof, REFUSALS)

        try:
            if stored.slow:
                matched = verifier.shared.verify(proof, network, admit, matches, done)
            else:
                admit()
                matched = matches()
                done(matched)
        except Busy as busy:
            return Verdict(BUSY, retry_after=busy.seconds)
        except Exception as error:  # out of memory or threads
            log.error("%s: password could not be verified: %r", self.path, error)
            return Verdict(BUSY, retry_after=1)
        return Verdict(ACCEPTED, name) if matched else Verdict(REFUSED)

    def _decoy(self, users: Users, name: str) -> Hash:
        """Return the hash against which an unknown name is verified.  It has the cost of a user's hash, chosen by the
        name under a secret key: if users' hashes differ in cost, timing does not reveal which names exist."""
        seed = hmac.digest(self._key, name.encode(), "sha256")
        return users.hashes[int.from_bytes(seed, "little") % len(users.hashes)].decoy(seed)

    def _remembers(self, proof: bytes) -> bool:
        with self._lock:
            now = time.monotonic()
            if now - self._verified.get(proof, float("-inf")) >= IDLE:
                return False
            self._verified[proof] = now
            self._verified.move_to_end(proof)
            return True

    def _was_refused(self, proof: bytes) -> bool:
        with self._lock:
            return bool(self._refused) and time.monotonic() - self._refused.pop(proof, float("-inf")) < FRESH

    def _keep(self, table: OrderedDict[bytes, float], proof: bytes, most: int) -> None:
        with self._lock:
            table[proof] = time.monotonic()
            table.move_to_end(proof)
            while len(table) > most:
                table.popitem(last=False)
