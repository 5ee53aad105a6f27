"""The file ``run/NAME.metrics``: its atomic replacement, and its locks.

A process of a daemon holds a POSIX lock, fcntl(2), on the first byte of its slot.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemons.operating.metrics.slot import PAGE
from daemons.serving.record_locks import is_locked


class TakenError(Exception):
    """A running process holds the first slot of the existing file."""


def is_taken(path: Path) -> bool:
    """Return whether a running process holds the first slot of the file at `path`."""
    try:
        descriptor = os.open(
            path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        )  # O_NONBLOCK: open(2) of a FIFO would wait for a writer
    except FileNotFoundError:
        return False
    except PermissionError:
        # The file of another user, such as root, cannot be opened; its locks are in proc_locks(5).
        status = os.stat(path)
        place = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino} "
        return place in Path("/proc/locks").read_text("ascii")
    try:
        return is_locked(descriptor, PAGE)
    finally:
        os.close(descriptor)


def new_file(path: Path, page: bytes) -> int:
    """Atomically replace `path` by a new file that contains `page`; return its descriptor.

    Raises `TakenError`, `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = -1
    try:
        with in_place_of(path) as descriptor:
            os.pwrite(descriptor, page.ljust(PAGE, b"\0"), 0)
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        raise
    return descriptor


@contextmanager
def in_place_of(path: Path) -> Iterator[int]:
    """Yield the descriptor of a new file, which replaces that at `path` unless the block raises.

    Raises `TakenError`, `OSError`."""
    if is_taken(path):
        raise TakenError
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    # Mode 0600: a user that can read a file can also lock it.
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
        os.rename(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
