"""Protected paths below documents or upstream servers."""

from __future__ import annotations

from collections.abc import Iterable

from daemons.web.files.identities import PathIdentities
from daemons.web.files.lookup import Identity
from daemons.web.site.prefix_map import Names, PrefixMap, bare, folded, names_of
from daemons.web.site.protection import Protection


class PartlyProtected:
    """The protections strictly below `prefix`; false if there are none.

    The file system or the upstream server may treat several spellings as one path, so names are compared `folded`.
    Documents in `folder` are compared by identity as well.
    """

    def __init__(self, prefix: str, protections: Iterable[Protection], folder: str = "") -> None:
        self._prefix = bare(names_of(prefix) or ())
        depth = len(self._prefix)
        below = [each for each in protections if len(each.names) > depth and each.names[:depth] == self._prefix]
        self._by_name = PrefixMap.by_names((tuple(map(folded, each.names)), each) for each in below)
        self._by_identity = PathIdentities(
            folder, [(each.names[depth:], each) for each in below if folder], lambda name: ()
        )

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def find(self, names: Names, document: Identity | None) -> Protection | None:
        """Return the protection of a path, or of the document at that path."""
        found = self._by_name.find(tuple(map(folded, names[: self._by_name.longest])))
        if found is not None:
            return found.value
        same = self._by_identity.find((), document)
        return same[0] if same else None

    def hides(self, name: bytes, document: Identity | None) -> bool:
        """Return whether the list of documents omits one, since it needs a password of its own."""
        return self.find((*self._prefix, name), document) is not None
