"""The bank's users: a users file created together with the database."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path

from daemons.accounts import users_file
from daemons.webapp.creation import create

log = logging.getLogger(__name__)

#: Users of a new bank: brandon with the password atigdng, and sam with the password xyzzy.  The passwords are public,
#: so they need not be hashed with a new salt for each bank.
EXAMPLES = (
    "brandon:scrypt$16384$8$5$+6AUvno16D5yDIBOfWRkEA==$lUYi8JSk2in24qNkPSkoQs2thhzBhCGKzMza2rJ2AQ4=",
    "sam:scrypt$16384$8$5$NZ+jrmcVd3dQqFao9F2zBA==$XLkUw6pkve9tNAM9/08ywQdNxZ2/CUOu4jymdSs+YVc=",
)


_HEAD = "# The bank's users.  Add one or change a password with: daemons password FILE NAME"


def create_users(path: Path, lines: Iterable[str]) -> None:
    """Create a users file of `lines`, unless it exists.  Raises `OSError`."""
    create(path, "".join(f"{line}\n" for line in (_HEAD, *lines)).encode("utf-8"))


def converted(users: Iterable[tuple[str, str]]) -> list[str]:
    """Return the lines for the users of an earlier database, given names and Werkzeug's hashes.  A user that cannot be
    converted is logged and omitted."""
    lines = []
    for name, kept in users:
        try:
            line = f"{name}:{_converted(kept)}"
            users_file.parse_lines(line)
        except ValueError as error:
            log.warning("user %s of the database not converted, login disabled: %s", name, error)
        else:
            lines.append(line)
    return lines


def _converted(kept: str) -> str:
    """Convert ``scrypt:N:R:P$SALT$HEX``, whose salt is text.  Raises `ValueError`."""
    method, salt, digest = kept.split("$")
    scrypt, *cost = method.split(":")
    parts = (salt.encode("utf-8"), bytes.fromhex(digest))
    return "$".join((scrypt, *cost, *(b64encode(each).decode("ascii") for each in parts)))
