"""``users`` of [rpc] and [jsonrpc]: the accounts that may call.

    python -m daemons.rpc.users robin

prints a random secret, once, and the corresponding line of the users file.  A random secret needs no slow hash.  Under
``engine = loop``, computing a slow hash would delay all other connections.
"""

from __future__ import annotations

import sys

from daemons.accounts import Accounts
from daemons.accounts.hashes import NAME, generate_secret
from daemons.accounts.users_file import checked
from daemons.settings.values import FieldType


def _accounts(text: str) -> Accounts | None:
    if not text:
        return None
    checked(text)
    return Accounts(text)


#: Path of a users file; empty if every peer may call.
USERS: FieldType[Accounts | None] = FieldType(
    _accounts, lambda accounts: "" if accounts is None else accounts.path, "file"
)


def line_for(name: str) -> tuple[str, str]:
    """Return a new secret for `name`, and its line in the file.  Raises `ValueError` for an invalid name."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a user name; expected up to 64 characters without a colon")
    secret, stored = generate_secret()
    return secret, f"{name}:{stored}"


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
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
