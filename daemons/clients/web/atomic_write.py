"""A file that is whole or is not there."""

from __future__ import annotations

import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

#: Symbolic links that are followed to find a descriptor; the kernel follows as many, path_resolution(7).
_LINKS = 40


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What goes wrong is said of `path`: write(2) knows no name, and nobody knows that of a temporary."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise SystemExit, so that the block removes its temporary file; then end the process by
    that signal.  Where the program has handlers of its own, and outside the main thread, do nothing."""
    received: list[int] = []

    def unwind(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise SystemExit(128 + number)

    in_main_thread = threading.current_thread() is threading.main_thread()
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers if in_main_thread else ():
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number in numbers if in_main_thread else ():
            signal.signal(number, signal.SIG_DFL)
        if received:
            signal.raise_signal(received[0])


@contextmanager
def anew(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """A temporary beside `path` to write to, which takes its name at the end of the ``with``; where that is left by an
    exception, Ctrl-C among them, `path` is what it was.  What is no regular file (a FIFO, a device) is written to as it
    is.  So is an open descriptor (/dev/stdout), whatever it is: the file that it appends to may have other data.
    `mode` is the file's; without it that of the one before, or else what the umask leaves.  Raises `OSError`."""
    if (open_one := _descriptor(path)) is not None:
        with named(path):
            sys.stdout.flush()  # may have been printed to the same file
            with os.fdopen(os.dup(open_one), "wb") as file:
                yield file
        return
    try:
        is_special = not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        is_special = False
    if is_special:
        with named(path), path.open("wb") as file:
            yield file
        return
    target = path.resolve()  # of a symbolic link, what it leads to
    with _signals_unwind():
        with named(path):
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:50]}.", dir=target.parent)
        try:
            with named(path), os.fdopen(descriptor, "wb") as file:
                yield file
                os.fchmod(descriptor, _mode(target) if mode is None else mode)
            os.replace(name, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise


def _descriptor(path: Path) -> int | None:
    """Return the number of the descriptor of this process that `path` stands for, as /dev/stdout, /dev/fd/1 and
    /proc/self/fd/1 do; None if it is another file."""
    for _ in range(_LINKS):
        if (
            path.name.isascii()
            and path.name.isdecimal()
            and len(path.name) < 8
            and path.parent.resolve() == Path(f"/proc/{os.getpid()}/fd")
        ):
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    return None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        os.umask(mask := os.umask(0o077))
        return 0o666 & ~mask
