"""Who may call: names and secrets in a file, and Basic authentication (RFC 7617).

    python -m daemons.rpc.users robin

prints a secret, once, and the line for the file.  Programs keep secrets better than people keep passwords, so each has
128 random bits: nobody will guess it, and it needs no slow hash, which under `loop` everybody would wait for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sys
from collections.abc import Mapping

from daemons.operating.values import Kind
from daemons.web import basic

#: A user-id has no colon: RFC 7617, section 2.
_LINE = re.compile(r"([^:\s#][^:\x00-\x1f\x7f]*):((?:[0-9a-f]{2}){8,}):([0-9a-f]{64})")

#: What is compared with where a name is not known, so that this takes as long.
_NOBODY = ("00" * 8, "0" * 64)


class Users:
    """From names to salts and hashes."""

    def __init__(self, lines: Mapping[str, tuple[str, str]]) -> None:
        self._lines = dict(lines)

    @classmethod
    def read(cls, path: str) -> Users:
        """Those in a file, a line ``NAME:SALT:HASH`` each; lines that begin with # are notes.  Raises `ValueError` and
        `OSError`."""
        lines: dict[str, tuple[str, str]] = {}
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                raise ValueError(f"{path} can be read by everybody; chmod 640")
            for number, line in enumerate(file, 1):
                if not line.strip() or line.startswith("#"):
                    continue
                match = _LINE.fullmatch(line.rstrip())
                if match is None or match[1] in lines:
                    what = "another line for one name" if match else "not NAME:SALT:HASH"
                    raise ValueError(f"{path}, line {number}: {what}; python -m daemons.rpc.users NAME makes one")
                lines[match[1]] = match[2], match[3]
        if not lines:
            raise ValueError(f"{path} names nobody")
        return cls(lines)

    def __len__(self) -> int:
        return len(self._lines)

    def name(self, authorization: str) -> str | None:
        """Who says this in the field Authorization; None: nobody who is known."""
        shown = basic.shown(authorization)
        if shown is None:
            return None
        name, secret = shown
        salt, hashed = self._lines.get(name, _NOBODY)
        # Of what nobody knows, too, in constant time.
        right = hmac.compare_digest(hash_of(salt, secret), hashed)
        return name if right and name in self._lines else None


def _users(text: str) -> Users | None:
    try:
        return Users.read(text) if text else None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


#: For a setting that names such a file; nothing: everybody may call.
USERS: Kind[Users | None] = Kind(_users, lambda users: "" if users is None else f"{len(users)} users", "file")


def hash_of(salt: str, secret: str) -> str:
    """SHA-256 of both, in hexadecimal digits."""
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()


def line_for(name: str) -> tuple[str, str]:
    """A new secret for `name`, and the line that the file has of it.  Raises `ValueError` for a name that is none."""
    secret, salt = secrets.token_urlsafe(16), secrets.token_hex(8)
    line = f"{name}:{salt}:{hash_of(salt, secret)}"
    if not _LINE.fullmatch(line):
        raise ValueError(
            f"{name!r} is no name: it has no colon, no control character, and does not begin with # or a blank"
        )
    return secret, line


def main(arguments: list[str]) -> int:
    """The command line."""
    try:
        (name,) = arguments
        secret, line = line_for(name)
    except ValueError as error:
        print(f"python -m daemons.rpc.users NAME: {error}", file=sys.stderr)
        return 2
    print(f"secret: {secret}\nline:   {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
