"""Users files for tests."""

from __future__ import annotations

from pathlib import Path

from daemons.accounts.hashes import Cost, generate_secret, hash_password

#: The cheapest parameters that scrypt takes.
CHEAP = Cost(2, 1, 1)


def write_lines(path: Path, *lines: str) -> None:
    """Replace the file in one step, with the mode that is expected of it."""
    new = path.with_name(f"{path.name}.new")
    new.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    new.chmod(0o600)
    new.replace(path)


def write_users(path: Path, cost: Cost = CHEAP, **users: str) -> None:
    """Write a users file of names and passwords."""
    write_lines(path, "# users", "", *(f"{name}:{hash_password(text, cost)}" for name, text in users.items()))


def write_secret(path: Path, name: str = "robin") -> str:
    """Write a users file of one random secret, and return that."""
    secret, stored = generate_secret()
    write_lines(path, f"{name}:{stored}")
    return secret
