"""Finds the configured paths of an opened file by its device and inode, not by the path of the request.

One file may have several names: on a file system that ignores case or normalizes Unicode, for a negotiated variant, by
hard links or bind mounts. All of them have the same device and inode, fstat(2).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from daemons.web.files.hard_links import LinkIndex
from daemons.web.files.lookup import Identity, Refused, identity_of, refused
from daemons.web.site.prefix_map import Names

T = TypeVar("T")


class PathIdentities(Generic[T]):
    """Maps the identities of files and directories at configured paths below `root` to values.

    A value applies to all files below its directory, or to all variants of its file.  `variants` returns the names of a
    file's variants.
    """

    def __init__(
        self, root: str, values: Iterable[tuple[Names, T]], variants: Callable[[bytes], Iterable[bytes]]
    ) -> None:
        #: Paths in the file system, variants first: `by_identity` reverses the order, so that the value of a file's own
        #: path precedes those of its variants.
        self._paths: list[tuple[bytes, T]] = []
        self._root = root
        self._links = LinkIndex(root)
        #: The last known identity of each path.
        self._last: dict[bytes, Identity] = {}
        for names, value in values:
            own = os.path.join(os.fsencode(root), *names)
            self._paths.append((own, value))
            if names:
                above = os.path.dirname(own)
                self._paths[:0] = [(os.path.join(above, each), value) for each in variants(names[-1])]
        self.by_identity()

    def __bool__(self) -> bool:
        return bool(self._paths)

    def find(
        self,
        entered: Sequence[Identity],
        file: Identity | None = None,
        links: int = 1,
        known: Mapping[Identity, list[T]] | None = None,
    ) -> list[T]:
        """Return the values that apply to a file in the last of the directories `entered`, the nearest first.

        `links` is the file's number of hard links. File and directories must still be open: some file systems renumber
        unused inodes. `known` is a result of `by_identity`, by default a new one.

        Raises `Unindexed` if there are too many files to index. Raises `Refused` if no descriptors are left, or if the
        root was replaced after the file was opened: the configured paths then lead to other files.
        """
        found = self._find(entered, file, links, self.by_identity() if known is None else known)
        if entered and self._root_identity() != entered[0]:
            raise Refused(503)
        return found

    def _find(
        self, entered: Sequence[Identity], file: Identity | None, links: int, found: Mapping[Identity, list[T]]
    ) -> list[T]:
        for each in (*([] if file is None else [file]), *reversed(entered)):
            if each in found:
                return found[each]
        if not found:
            return []
        try:
            own = self._links.other_names(entered, file, links)
        except OSError as error:
            raise refused(error) from error
        if not own:
            return []
        index = self._links.index([path for path, _ in self._paths], frozenset(found))
        paths = {index[each] for each in own if each in index}
        return [value for path, value in reversed(self._paths) if path in paths]

    def _root_identity(self) -> Identity | None:
        """Return the identity of the root; None while it does not exist, as when its link is being replaced."""
        try:
            return identity_of(os.stat(self._root))
        except OSError:
            return None

    def by_identity(self) -> dict[Identity, list[T]]:
        """Return the values by the current identities of their paths.

        While stat(2) of a path fails, as on a failing disk, its last identity counts: its file may have other names."""
        found: dict[Identity, list[T]] = {}
        for path, value in self._paths:
            try:
                # Symbolic links are followed: the target of a protected link is protected as well.
                identity = identity_of(os.stat(path))
            except OSError as error:
                failure = refused(error)
                if isinstance(failure, Refused) and failure.status != 503:
                    self._last.pop(path, None)  # no file can be opened at this path
                if (last := self._last.get(path)) is None:
                    continue
                identity = last
            self._last[path] = identity
            found.setdefault(identity, []).insert(0, value)
        return found
