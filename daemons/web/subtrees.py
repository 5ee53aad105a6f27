"""What of a site is not simply a file: subtrees that are protected, have moved, are written to, or are answered by
another server.  In this order; of the last two, the longest path counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from daemons.framings.http import Request
from daemons.serving.service import Reply, Visitor
from daemons.web.behind import Behind, UpstreamLimits
from daemons.web.documents import Documents
from daemons.web.places import Places, names_of
from daemons.web.protection import Protection, Realm
from daemons.web.redirects import Moved, Redirect, itself
from daemons.web.responses import Second
from daemons.web.static import Static
from daemons.web.store import Store

if TYPE_CHECKING:
    from daemons.web.forwarding import Forwarding


def contradiction(
    root: str,
    redirects: Mapping[str, Redirect],
    protected: Mapping[str, Realm],
    documents: Mapping[str, str],
    proxy: Mapping[str, Behind],
) -> str:
    """Why these tables cannot stand together, or nothing."""
    circle = itself(redirects)
    if circle is not None:
        return f"[redirects] {circle} = {redirects[circle].status} {redirects[circle].target}: it leads to itself"
    for prefix, folder in documents.items():
        if _lies_in(folder, root):
            return f"[documents] {prefix}: {folder} lies in the root; write another folder"
        if prefix in proxy:
            return f"[proxy] {prefix}: there are [documents] of that path; write only one of the two"
    for prefix, realm in protected.items():
        if any(_lies_in(realm.file, folder) for folder in (root, *documents.values())):
            return f"[protected] {prefix}: {realm.file} would be served; write another file"
    return ""


def _lies_in(path: str, folder: str) -> bool:
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


class Subtrees:
    """Answers where something else than a file of `static` is meant."""

    def __init__(
        self,
        static: Static,
        redirects: Mapping[str, Redirect],
        protected: Mapping[str, Protection],
        documents: Mapping[str, Store],
        proxy: Mapping[str, Behind],
        upstream: UpstreamLimits,
    ) -> None:
        self._static = static
        self._moved = Moved(redirects)
        self._protected = Places(protected)
        self._forwarding = _forwarding(proxy, upstream)
        answering: dict[str, Documents | Forwarding] = {path: Documents(store) for path, store in documents.items()}
        self._places = Places(answering | self._forwarding)
        #: What has it wait for something else: for a server, for the disk (fsync), or for scrypt's fifth of a second.
        self.blocks = "[proxy]" if proxy else "[documents]" if documents else "[protected]" if protected else ""
        #: Whether it has to know who asks; and whether bodies are of use.
        self.visited = bool(proxy or protected)
        self.takes_bodies = bool(documents or proxy)

    def answer(self, request: Request, second: Second, visitor: Visitor) -> Reply | None:
        """What is answered, which nobody may remember; None: a file is meant."""
        names = names_of(request.path.partition("?")[0])
        if names is None:
            return None  # nor is it a file
        found = self._places.find(names)
        protected = self._protected.find(names)
        if found is None and self._protected:
            # What is protected as one file is not to be had by another name of it.
            for other in self._static.others(names):
                asking = self._protected.find(other)
                if asking is not None and not asking.rest:
                    protected = asking
        if protected is not None:
            refusal = protected.value.refusal(request, second, visitor)
            if refusal is not None:
                return refusal
            second = Second(second.now, private=True)
        moved = self._moved.answer(request, second, names)
        if moved is not None:
            return moved
        if found is not None:
            return found.value.answer(request, second, visitor, found.prefix, found.rest)
        return None if protected is None else self._static.answer(request, second)

    def close(self) -> None:
        """Close the connections to servers behind this one."""
        for forwarding in self._forwarding.values():
            forwarding.close()


def _forwarding(proxy: Mapping[str, Behind], limits: UpstreamLimits) -> dict[str, Forwarding]:
    """A server that stands below several paths is one; all servers have an equal share of the requests."""
    if not proxy:
        return {}
    from daemons.web.forwarding import Forwarding
    from daemons.web.upstream import Upstream

    servers = set(proxy.values())
    share = limits._replace(requests=max(1, limits.requests // len(servers)))
    upstreams = {behind: Upstream(behind, share) for behind in servers}
    return {prefix: Forwarding(prefix, upstreams[behind]) for prefix, behind in proxy.items()}
