"""The bank's users: a users file, which is made together with the database."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path

from daemons.accounts import users_file
from daemons.webapp.creation import create

log = logging.getLogger(__name__)

#: For a new bank: brandon, whose password is atigdng, and sam, whose password is xyzzy.  All the world knows these, so
#: that they need not be hashed anew, with another salt, for each bank.
EXAMPLES = (
    "brandon:scrypt$16384$8$5$+6AUvno16D5yDIBOfWRkEA==$lUYi8JSk2in24qNkPSkoQs2thhzBhCGKzMza2rJ2AQ4=",
    "sam:scrypt$16384$8$5$NZ+jrmcVd3dQqFao9F2zBA==$XLkUw6pkve9tNAM9/08ywQdNxZ2/CUOu4jymdSs+YVc=",
)


_HEAD = "# The bank's users: daemons password FILE NAME adds one, or changes a password."


def create_users(path: Path, lines: Iterable[str]) -> None:
    """Create a users file of `lines`, unless there is one.  Raises `OSError`."""
    create(path, "".join(f"{line}\n" for line in (_HEAD, *lines)).encode("utf-8"))


def converted(users: Iterable[tuple[str, str]]) -> list[str]:
    """Return the lines for the users of an earlier database: names, and hashes that Werkzeug has made.  One that cannot
    be converted is left out, and logged."""
    lines = []
    for name, kept in users:
        try:
            line = f"{name}:{_converted(kept)}"
            users_file.parse_lines(line)
        except ValueError as error:
            log.warning("user %s of the database cannot log in any more: %s", name, error)
        else:
            lines.append(line)
    return lines


def _converted(kept: str) -> str:
    """Convert ``scrypt:N:R:P$SALT$HEX``, where the salt is text.  Raises `ValueError`."""
    method, salt, digest = kept.split("$")
    scrypt, *cost = method.split(":")
    octets = (salt.encode("utf-8"), bytes.fromhex(digest))
    return "$".join((scrypt, *cost, *(b64encode(each).decode("ascii") for each in octets)))
