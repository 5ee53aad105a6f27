"""Creation of files on first use."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def create(path: Path, content: bytes) -> None:
    """Create a file with mode 0600, unless it exists.  Raises `OSError`.

    The content is written under a temporary name and then linked: no process reads a partial file, and of several
    processes that create it at once, the first one wins.  An existing file is not opened, since closing it would drop
    the POSIX locks that SQLite holds on it (fcntl(2))."""
    if path.exists():
        return
    path = path.resolve()  # follow a dangling symbolic link
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        os.unlink(made)
