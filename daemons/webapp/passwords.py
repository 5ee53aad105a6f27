"""Passwords: kept as what scrypt (RFC 7914) makes of them, and compared in constant time."""

from __future__ import annotations

from threading import BoundedSemaphore

from werkzeug.security import check_password_hash, generate_password_hash

#: N, r and p: 16 MiB and some 40 ms for each try.
METHOD = "scrypt:16384:8:1"

#: Nobody's password.
NOBODY = f"{METHOD}$nobody$0"

#: Tries at a time, in one process: who tries many holds up others who do, and takes no more memory.
_turns = BoundedSemaphore(2)


def hashed(password: str) -> str:
    """What is kept of it."""
    with _turns:
        return generate_password_hash(password, METHOD)


def matches(kept: str | None, password: str) -> bool:
    """Whether `kept` is of this password.  None, where there is no such user, takes as long."""
    with _turns:
        return check_password_hash(kept or NOBODY, password)
