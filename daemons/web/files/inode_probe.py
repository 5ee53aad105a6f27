"""Checks that a file has one inode number under all its names, as `daemons.web.files.identities` requires.

Some file systems that ignore case or Unicode form, mostly FUSE file systems, number inodes by the name looked up.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice

from daemons.web.site.prefix_map import Names

#: Maximum names in the root that are tried.
SAMPLE = 100


def numbered_by_name(root: str, paths: Iterable[Names]) -> str:
    """Return a file in `root`, or at or above one of `paths`, with an inode number that depends on its name's spelling;
    empty if there is none."""
    for above, name in _candidates(root, paths):
        for other in {name.swapcase(), unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)} - {name}:
            try:
                same = os.path.samestat(os.lstat(os.path.join(above, name)), os.lstat(os.path.join(above, other)))
                if not same and other not in os.listdir(above):
                    return os.path.join(above, name)
            except OSError:
                continue
    return ""


def _candidates(root: str, paths: Iterable[Names]) -> Iterator[tuple[str, str]]:
    """Yield directories, each with a name in it."""
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in islice(entries, SAMPLE)]
    except OSError:
        names = []
    yield from ((root, name) for name in names)
    for path in paths:
        above = root
        for name in map(os.fsdecode, path):
            yield above, name
            above = os.path.join(above, name)
