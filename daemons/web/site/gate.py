"""Authentication by the file that was opened, not by the path of the request; see `daemons.web.files.identities`."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence

from daemons.framings.http import Request
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import Reply
from daemons.web.files.hard_links import Unindexed
from daemons.web.files.identities import PathIdentities
from daemons.web.files.lookup import Files, Folder, Identity, identity_of
from daemons.web.responses import ResponseCache, error
from daemons.web.site.prefix_map import Names, PrefixMap, bare, names_of
from daemons.web.site.protection import Protection
from daemons.web.site.redirects import ALL, Redirect


class Denied(Exception):
    """The opened file is not served; `reply` is sent instead."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Shadowed:
    """Files that a request for their own path does not reach: the path is redirected, or is at or below a path of
    `elsewhere`.

    A redirect to another name of the same file shadows nothing."""

    #: The second of the last look-up, in seconds since 1970, and its result: see `at`.
    _Known = tuple[int, frozenset[Identity], frozenset[Identity]]

    def __init__(self, files: Files, redirects: Mapping[str, Redirect], elsewhere: Iterable[str]) -> None:
        self._files = files
        #: Paths, the target of a redirect, and whether all paths below are shadowed too.
        self._paths: list[tuple[Names, Names | None, bool]] = [(_names(path), None, True) for path in elsewhere]
        for key, redirect in redirects.items():
            target = redirect.target.partition("?")[0]
            local = _names(target) if target.startswith("/") else None
            self._paths.append((_names(key), local, key.endswith(ALL)))
        self._known: Shadowed._Known = (0, frozenset(), frozenset())

    def __bool__(self) -> bool:
        return bool(self._paths)

    def at(self, now: int) -> tuple[frozenset[Identity], frozenset[Identity]]:
        """Return the identities of shadowed subtrees, and of all shadowed files and directories, as of the second
        `now`."""
        if self._known[0] != now:
            found = [(each, below) for names, target, below in self._paths if (each := self._identity(names, target))]
            trees = frozenset(each for each, below in found if below)
            self._known = now, trees, frozenset(each for each, _ in found)
        return self._known[1:]

    def _identity(self, names: Names, target: Names | None) -> Identity | None:
        found = self._files.identity(names) if names else None
        return None if found is None or (target is not None and self._files.identity(target) == found) else found


def _names(path: str) -> Names:
    return bare(names_of(path.removesuffix(ALL) or "/") or ())


class GuardedFiles:
    """The protected and shadowed files of a site."""

    def __init__(
        self,
        files: Files,
        by_name: PrefixMap[Protection],
        by_identity: PathIdentities[Protection],
        shadowed: Shadowed,
    ) -> None:
        self.files = files
        self.by_name = by_name
        self.by_identity = by_identity
        self.shadowed = shadowed

    def __bool__(self) -> bool:
        return bool(self.by_identity or self.shadowed)


class Gate:
    """Checks the files opened for one request. `passed` is the protection already checked by path."""

    def __init__(
        self,
        files: GuardedFiles,
        request: Request,
        cache: ResponseCache,
        peer: Peer,
        names: Names,
        passed: Protection | None,
    ) -> None:
        self._files = files
        self._request = request
        self._peer = peer
        self._above = names[:-1]
        self._passed = [] if passed is None else [passed]
        #: The identities of protected files, looked up once for all names of a listing.
        self._known: dict[Identity, list[Protection]] | None = None
        #: The cache of the response: a private one if it is for one user only.
        self.cache = cache

    def check(self, entered: Sequence[Identity], file: Identity | None = None, links: int = 1) -> ResponseCache:
        """Check the directories `entered`, the root first, and the file opened in the last of them.

        `links` is the file's number of hard links. All of them must still be open. Return the cache of the response.
        Raises `Denied`, and `Refused` if the root was replaced meanwhile."""
        try:
            protections = self._files.by_identity.find(entered, file, links)
        except Unindexed:
            raise Denied(error(self._request, 403, self.cache)) from None
        if protections and not any(map(self._has_passed, protections)):
            refusal = protections[0].refusal(self._request, self.cache, self._peer)
            if refusal is not None:
                raise Denied(refusal)
            self._passed.append(protections[0])
            self.cache = ResponseCache(self.cache.now, private=True)
        if self._files.shadowed and not self._files.shadowed.at(self.cache.now)[0].isdisjoint(entered[1:]):
            raise Denied(error(self._request, 404, self.cache))
        return self.cache

    def check_name(self, folder: Folder, name: bytes) -> None:
        """Check the file of the request's path, `name` in `folder`, even if a variant of it is served. If `name` is
        empty, check the folder. Raises `Denied`."""
        shadowed = self._files.shadowed
        found = folder.stat(name or b".") if shadowed else None
        if found is not None and identity_of(found) in shadowed.at(self.cache.now)[1]:
            self.check(folder.entered)
            raise Denied(error(self._request, 404, self.cache))

    def shows(self, folder: Folder, name: bytes) -> bool:
        """Return whether a listing of `folder` may contain `name`: not if that needs another password."""
        named = self._files.by_name.find((*self._above, name))
        found = folder.stat(name)
        if found is None or not (named is None or self._has_passed(named.value)):
            return False
        identity = identity_of(found)
        if self._known is None:
            self._known = self._files.by_identity.by_identity()
        try:
            if stat.S_ISDIR(found.st_mode):
                protections = self._files.by_identity.find((*folder.entered, identity), known=self._known)
            else:
                protections = self._files.by_identity.find(folder.entered, identity, found.st_nlink, self._known)
        except Unindexed:
            return False
        return not protections or any(map(self._has_passed, protections))

    def _has_passed(self, protection: Protection) -> bool:
        """Return whether `protection`, or a more specific one below it, has been passed."""
        names = protection.names
        return any(each is protection or each.names[: len(names)] == names for each in self._passed)
