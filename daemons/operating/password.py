"""``daemons password FILE NAME``: add a user to a file for [protected], or change a password."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from contextlib import suppress
from pathlib import Path

from daemons.clients.tools import DONE, refuse
from daemons.web import passwords

#: Nobody else reads it: passwords can be tried against what is in it, as fast as one's machines go.
MODE = 0o600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE and NAME.  The password is no argument: those can be seen by everybody on the machine."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the users' file, which is made where there is none")
    parser.add_argument("name", metavar="NAME", help="the user; a line that names one already is replaced")
    parser.epilog = (
        "It is asked for twice; or, where standard input is no terminal, it is the first line of that. "
        "Exit codes: 0 it is written, 1 it is not, 2 a wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    """Ask for the password, and write the line; returns the exit code."""
    name = passwords.normalised(options.name)
    if not passwords.NAME.fullmatch(name):
        return refuse("password", f"{options.name!r} is no name; up to 64 characters without a colon are expected")
    try:
        users = passwords.read(options.file) if options.file.exists() else {}
    except OSError as error:
        return refuse("password", f"{options.file}: {(error.strerror or str(error)).lower()}")
    except ValueError as error:
        return refuse("password", f"{options.file}: {error}")
    password = _asked(name)
    if password is None:
        return refuse("password", "the two are not the same; nothing is changed")
    if not password:
        return refuse("password", "an empty password is none; nothing is changed")
    try:
        _write(options.file, name, str(passwords.stored(password)))
    except OSError as error:
        return refuse("password", f"{options.file}: {(error.strerror or str(error)).lower()}")
    print(f"{options.file}: {name} {'has a new password' if name in users else 'is added'}")
    return DONE


def _asked(name: str) -> str | None:
    """The password; None where it was not repeated."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"Password of {name}: ")
    return password if getpass.getpass("Once more: ") == password else None


def _write(path: Path, name: str, stored: str) -> None:
    """Replace the file as a whole: a daemon may be reading it."""
    text = path.read_text("utf-8") if path.exists() else ""
    old = text.removesuffix("\n").split("\n") if text else []
    line = f"{name}:{stored}"
    mine = [number for number, each in enumerate(old) if passwords.normalised(each.partition(":")[0]) == name]
    lines = [line if number in mine else each for number, each in enumerate(old)] if mine else [*old, line]
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
