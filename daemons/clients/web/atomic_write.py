"""Atomic replacement of a file: readers see the old content or the complete new content."""

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

#: Maximum symbolic links that are followed to find a descriptor; the limit of the kernel, path_resolution(7).
_LINKS = 40


@contextmanager
def name_errors(path: Path) -> Iterator[None]:
    """Raise each `OSError` of the block with `path` as its file name: errors of write(2) have none, and the name of a
    temporary file means nothing to the user."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise SystemExit in the block, so that it removes its temporary file; then terminate the
    process by that signal.  Does nothing for signals with other handlers, and outside the main thread."""
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
def replace_file(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Yield a temporary file in the folder of `path`, which is renamed to `path` at the end of the block.

    If the block raises, Ctrl-C included, `path` is unchanged.  A file that is not regular (a FIFO, a device) is opened
    and written directly, and so is an open descriptor (/dev/stdout), since its file may have other data.  `mode` is the
    mode of the new file; the default is that of the replaced file, or else follows the umask.  Raises `OSError`."""
    if (open_one := _descriptor(path)) is not None:
        with name_errors(path):
            sys.stdout.flush()  # keeps the order if standard output is the same file
            with os.fdopen(os.dup(open_one), "wb") as file:
                yield file
        return
    try:
        is_special = not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        is_special = False
    if is_special:
        with name_errors(path), path.open("wb") as file:
            yield file
        return
    target = path.resolve()  # a symbolic link stays; its target is replaced
    with _signals_unwind():
        with name_errors(path):
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:50]}.", dir=target.parent)
        try:
            with name_errors(path), os.fdopen(descriptor, "wb") as file:
                yield file
                os.fchmod(descriptor, _mode(target) if mode is None else mode)
            os.replace(name, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise


def _descriptor(path: Path) -> int | None:
    """Return the number of this process's descriptor that `path` refers to, such as /dev/stdout, /dev/fd/1 and
    /proc/self/fd/1; None for other files."""
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
