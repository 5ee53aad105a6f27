"""``daemons password FILE NAME``: add a user to a users file, or change a password."""

from __future__ import annotations

import argparse
import fcntl
import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from daemons.accounts import hashes, users_file
from daemons.clients.tools import DONE, refuse

#: Passwords can be tried against the file, without any throttle, by every user who can read it.
MODE = 0o600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE, NAME and --generate.  The password is no argument: every user of the machine can see those."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the users file; made if there is none")
    parser.add_argument("name", metavar="NAME", help="the user; an existing line is replaced")
    parser.add_argument(
        "--generate",
        action="store_true",
        help="print a random secret, once, for a program: it needs no slow hash, and may be used under engine = loop",
    )
    parser.epilog = (
        "The password is asked for twice; or, where standard input is no terminal, it is the first line of that. "
        "Exit codes: 0 it is written, 1 it is not, 2 a wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    """Ask for the password, or make a secret, and write the line; returns the exit code."""
    name = hashes.normalized(options.name)
    if not hashes.NAME.fullmatch(name):
        return refuse("password", f"{options.name!r} is no name; up to 64 characters without a colon are expected")
    try:
        _read(options.file)  # before a password is asked for
    except (OSError, ValueError) as error:
        return refuse("password", users_file.complaint(str(options.file), error))
    stored: hashes.Hash
    if options.generate:
        secret, stored = hashes.generate_secret()
    else:
        password = _asked(name)
        if password is None:
            return refuse("password", "the two are not the same; nothing is changed")
        if not password:
            return refuse("password", "an empty password is none; nothing is changed")
        try:
            stored = hashes.hash_password(password)
        except UnicodeEncodeError:
            return refuse("password", "not UTF-8; nothing is changed")
        except ValueError as error:
            return refuse("password", f"{error}; nothing is changed")
    try:
        is_known = _write(options.file, name, f"{name}:{stored}")
    except OSError as error:
        return refuse("password", f"{options.file}: {(error.strerror or str(error)).lower()}")
    except ValueError as error:
        return refuse("password", users_file.complaint(str(options.file), error))
    if options.generate:
        print(f"secret: {secret}")
    print(f"{options.file}: {name} {'has a new password' if is_known else 'is added'}")
    return DONE


def _asked(name: str) -> str | None:
    """The password; None where it was not repeated."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"Password of {name}: ")
    return password if getpass.getpass("Once more: ") == password else None


def _read(path: Path) -> tuple[str, users_file.Users]:
    """Return the text of the file, which need not exist, and its users.  Raises `OSError` and `ValueError`."""
    text = users_file.read_text(path) if path.exists() else ""
    return text, users_file.parse_lines(text)


def _write(file: Path, name: str, line: str) -> bool:
    """Replace the line of a user, or add it; return whether there was one.  The file is replaced as a whole: a daemon
    may be reading it.  Raises `OSError`, and `ValueError` for a file that is wrong by now."""
    # Of a link the file that it leads to is replaced: others may know that by another name.
    path = Path(os.path.realpath(file))
    with _locked(path.parent):
        # Read only now: while a password was typed, another command may have added or removed a user.
        text, users = _read(path)
        old = text.removesuffix("\n").split("\n") if text else []
        own = [number for number, each in enumerate(old) if hashes.normalized(each.partition(":")[0]) == name]
        lines = [line if number in own else each for number, each in enumerate(old)] if own else [*old, line]
        _replace(path, lines)
    return name in users


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other commands from writing a users file in `folder`.  Waits for them.  Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, lines: list[str]) -> None:
    """Write the lines to a new file in the place of `path`, with its mode and owner."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{each}\n" for each in lines)
            file.flush()
            if path.exists():
                found = path.stat()
                os.fchmod(file.fileno(), found.st_mode & 0o777)
                with suppress(PermissionError):
                    os.fchown(file.fileno(), found.st_uid, found.st_gid)
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink()
        raise
