"""``daemons password FILE NAME``: add a user to a users file, or change a password."""

from __future__ import annotations

import argparse
import errno
import fcntl
import getpass
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemons.accounts import hashes, users_file
from daemons.clients import arguments
from daemons.clients.tools import DONE, refuse

#: Maximum characters of a line of standard input; passwords are shorter (`hashes.LONGEST_PASSWORD`).
LONGEST_LINE = 4096

#: Maximum seconds to wait for other commands.  Any user that may read the folder can lock it.
PATIENCE = 10.0

#: Only the owner: any reader of the file could guess passwords without a throttle.
MODE = 0o600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FILE, NAME and --generate; not the password, since every local user can see arguments of commands."""
    parser.add_argument("file", metavar="FILE", type=arguments.path, help="the users file; created if missing")
    parser.add_argument("name", metavar="NAME", help="the user; an existing line is replaced")
    parser.add_argument(
        "--generate",
        action="store_true",
        help="generate and print a random secret for a program: it needs no slow hash, and works under engine = loop",
    )
    parser.epilog = (
        "The password is read twice from the terminal, or from the first line of standard input. "
        "Exit codes: 0 written, 1 not written, 2 a wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    """Read the password, or generate a secret, and write the line; return the exit code."""
    name = hashes.normalized(options.name)
    if not hashes.NAME.fullmatch(name):
        return refuse("password", f"{options.name!r} is not a name; up to 64 characters without a colon are expected")
    try:
        _read(options.file)  # errors before the prompt
    except (OSError, ValueError) as error:
        return refuse("password", users_file.complaint(str(options.file), error))
    stored: hashes.Hash
    if options.generate:
        secret, stored = hashes.generate_secret()
    else:
        try:
            password = _read_password(name)
            if password is None:
                return refuse("password", "the passwords differ; nothing was changed")
            if not password:
                return refuse("password", "the password is empty; nothing was changed")
            stored = hashes.hash_password(password)
        except EOFError:
            return refuse("password", "no password was given; nothing was changed")
        except UnicodeError:
            return refuse("password", "not UTF-8; nothing was changed")
        except ValueError as error:
            return refuse("password", f"{error}; nothing was changed")
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


def _read_password(name: str) -> str | None:
    """Return the password from the terminal or standard input; None if the repetition differs.

    Raises `EOFError` for Ctrl-D at the terminal, and `UnicodeDecodeError`."""
    if not sys.stdin.isatty():
        return sys.stdin.readline(LONGEST_LINE).rstrip("\r\n")
    password = getpass.getpass(f"Password of {name}: ")
    return password if getpass.getpass("Repeat the password: ") == password else None


def _read(path: Path) -> tuple[str, users_file.Users]:
    """Return the text of the file, "" if it does not exist, and its users.  Raises `OSError` and `ValueError`."""
    text = users_file.read_text(path) if path.exists() else ""
    return text, users_file.parse_lines(text)


def _write(file: Path, name: str, line: str) -> bool:
    """Replace or add the line of a user; return whether the user existed.

    The file is replaced atomically, since a daemon may be reading it.  Raises `OSError`, and `ValueError` for an
    invalid file."""
    # Replace the target of a symbolic link, not the link.
    path = Path(os.path.realpath(file))
    with _locked(path.parent):
        # Read under the lock: another command may have changed the file since the prompt.
        text, users = _read(path)
        old = text.removesuffix("\n").split("\n") if text else []
        own = [number for number, each in enumerate(old) if hashes.normalized(each.partition(":")[0]) == name]
        lines = [line if number in own else each for number, each in enumerate(old)] if own else [*old, line]
        _replace(path, lines)
    return name in users


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock for users files in `folder`; wait for other commands, for up to `PATIENCE`.  Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    reason = f"another process has locked its folder for more than {PATIENCE:g} s"
                    raise OSError(errno.EWOULDBLOCK, reason) from None
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _copy_access(found: os.stat_result, descriptor: int) -> None:
    """Give a new file the owner and the mode of the old one.  If only root can keep the owner, keep the group.

    Raises `OSError` if a daemon that could read the old file, as its owner or by its group, might not read the new
    one."""
    try:
        os.fchown(descriptor, found.st_uid, found.st_gid)
    except PermissionError:
        try:
            os.fchown(descriptor, -1, found.st_gid)
            is_kept = bool(found.st_mode & stat.S_IRGRP)
        except PermissionError:
            is_kept = False
        if not is_kept:
            reason = "belongs to another user, who could not read it any more; run this command as that user or as root"
            raise PermissionError(errno.EPERM, reason) from None
    os.fchmod(descriptor, found.st_mode & 0o777)


def _replace(path: Path, lines: list[str]) -> None:
    """Atomically replace `path` by a file with these lines, and keep its mode and owner."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{each}\n" for each in lines)
            file.flush()
            if path.exists():
                _copy_access(path.stat(), file.fileno())
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink()
        raise
