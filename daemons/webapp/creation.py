"""Files that the site makes on first use."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def create(path: Path, content: bytes) -> None:
    """Create a file of `content`, mode 0600, unless there is one.  Raises `OSError`.

    It is written under another name and then linked to its own: no process ever reads half of it, and of several that
    create it at once the first one wins.  A file that exists is not opened: to close it again would drop the POSIX
    locks that SQLite holds on it (fcntl(2))."""
    if path.exists():
        return
    path = path.resolve()  # a link to a file that is not there
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
