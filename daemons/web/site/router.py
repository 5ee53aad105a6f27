"""Selects the responder of a path: protection, then redirects, then documents or an upstream server, then files.

Between documents and upstream servers, the longest prefix counts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from daemons.accounts import verifier
from daemons.framings.http import Request
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import Reply
from daemons.web.files.identities import PathIdentities
from daemons.web.files.inode_probe import numbered_by_name
from daemons.web.files.static import Static
from daemons.web.gateway.upstream_address import UpstreamAddress, UpstreamLimits
from daemons.web.responses import ResponseCache, error
from daemons.web.site.documents import Documents
from daemons.web.site.gate import Denied, Gate, GuardedFiles, Shadowed
from daemons.web.site.partly_protected import PartlyProtected
from daemons.web.site.prefix_map import Found, Names, PrefixMap, bare, is_ambiguous, names_of
from daemons.web.site.protection import Protection, Realm
from daemons.web.site.redirects import Redirect, RedirectMap, find_loop
from daemons.web.site.store import Store

if TYPE_CHECKING:
    from daemons.web.gateway.forwarding import Forwarding

_AMBIGUOUS = (
    "<p>The path contains <code>;</code>, an encoded <code>% ? #</code>, or a control character, or is not UTF-8. "
    "Such paths are refused where parts of a site need a password.\n"
)


def find_conflict(
    root: str,
    redirects: Mapping[str, Redirect],
    protected: Mapping[str, Realm],
    documents: Mapping[str, str],
    proxy: Mapping[str, UpstreamAddress],
) -> str:
    """Return why these tables contradict each other; empty if they do not."""
    loop = find_loop(redirects)
    if loop is not None:
        return f"[redirects] {loop} = {redirects[loop].status} {redirects[loop].target}: redirects to itself"
    for prefix, folder in documents.items():
        if _lies_in(folder, root):
            return f"[documents] {prefix}: {folder} is inside the root; write another folder"
        if prefix in proxy:
            return f"[proxy] {prefix}: [documents] has the same path; remove one of the two"
        for other, same in documents.items():
            if protected and other != prefix and _is_one(same, folder):
                return f"[documents] {prefix}: {other} has the same folder; with [protected], write another one"
    for prefix, realm in protected.items():
        if any(_lies_in(realm.file, folder) for folder in (root, *documents.values())):
            return f"[protected] {prefix}: {realm.file} would be served; move it out of the root and of [documents]"
    if protected and (file := numbered_by_name(root, [bare(names_of(prefix) or ()) for prefix in protected])):
        reason = "its file system ignores case or Unicode form, and gives it an inode number for each spelling"
        return f"[protected]: {file} cannot be protected: {reason}; move the root to another file system"
    return ""


def _lies_in(path: str, folder: str) -> bool:
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def _is_one(folder: str, other: str) -> bool:
    """Return whether two paths lead to the same folder, which need not exist yet."""
    try:
        return os.path.samefile(folder, other)
    except OSError:
        return Path(folder).resolve() == Path(other).resolve()


class SiteRouter:
    """Responds to requests for a site that has more than the files of `static`."""

    def __init__(
        self,
        static: Static,
        redirects: Mapping[str, Redirect],
        protected: Mapping[str, Protection],
        documents: Mapping[str, Store],
        proxy: Mapping[str, UpstreamAddress],
        upstream: UpstreamLimits,
    ) -> None:
        self._static = static
        self._redirects = RedirectMap(redirects)
        self._protected = PrefixMap(protected)
        self._forwarding = _forwarding(proxy, upstream)
        #: The protections below each path of `documents` and `proxy`.
        self._partly = {
            path: PartlyProtected(path, protected.values(), documents[path].folder if path in documents else "")
            for path in (*documents, *proxy)
        }
        routes: dict[str, Documents | Forwarding] = {
            path: Documents(store, self._partly[path].hides) for path, store in documents.items()
        }
        self._routes = PrefixMap(routes | self._forwarding)
        self._guarded = GuardedFiles(
            static.files,
            self._protected,
            PathIdentities(static.files.root, [(each.names, each) for each in protected.values()], static.variants),
            Shadowed(static.files, redirects, [*documents, *proxy]),
        )
        #: The section that makes requests block: on an upstream server, on fsync(2), or on scrypt, for a fifth of a
        #: second.
        self.blocks = "[proxy]" if proxy else "[documents]" if documents else "[protected]" if protected else ""
        #: Whether request bodies are used.
        self.takes_bodies = bool(documents or proxy)
        #: Whether `respond` sets `request.user`.
        self.sets_user = bool(protected)

    def respond(self, request: Request, cache: ResponseCache, peer: Peer) -> tuple[Reply, bool]:
        """Return the response, and whether it may be cached for all clients.

        With `sets_user`, `request` must not be shared with other requests."""
        names = names_of(request.path.partition("?")[0])
        if names is None:
            return self._static.respond(request, cache), True  # 404
        found = self._routes.find(names)
        if found is None:
            protection = self._protection_of_file(names)
        else:
            if self._partly[found.prefix] and found.prefix in self._forwarding and is_ambiguous(names):
                return error(request, 400, cache, content=_AMBIGUOUS), False
            protection = self._protection_elsewhere(names, found)
        if protection is not None:
            refusal = protection.refusal(request, cache, peer)
            if refusal is not None:
                return refusal, False
            cache = ResponseCache(cache.now, private=True)
        moved = self._redirects.respond(request, cache, names)
        if moved is not None:
            return moved, False
        if found is not None:
            return found.value.respond(request, cache, peer, found.prefix, found.rest), False
        if not self._guarded:
            return self._static.respond(request, cache), True
        gate = Gate(self._guarded, request, cache, peer, names, protection)
        try:
            reply = self._static.respond(request, cache, gate)
        except Denied as denied:
            return denied.reply, False
        return reply, not gate.cache.private

    def _protection_of_file(self, names: Names) -> Protection | None:
        """Return the protection of the file at `names`, by its path alone."""
        found = self._protected.find(names)
        if self._protected and (found is None or found.rest):
            # The protection of a file applies to the paths of its variants, too.
            for other in self._static.other_names(names):
                single = self._protected.find(other)
                if single is not None and not single.rest:
                    found = single
        return None if found is None else found.value

    def _protection_elsewhere(self, names: Names, found: Found[Documents | Forwarding]) -> Protection | None:
        """Return the protection of a path of documents or of an upstream server."""
        protected = self._protected.find(names)
        protection = None if protected is None else protected.value
        if partly := self._partly[found.prefix]:
            document = found.value.identity(found.rest) if isinstance(found.value, Documents) else None
            nearest = partly.find(names, document)
            if nearest is not None and (protection is None or len(nearest.names) > len(protection.names)):
                return nearest
        return protection

    def limit_blocking_calls(self, most: int) -> None:
        """Limit the concurrent requests to all upstream servers to `most` minus the number of password checks that may
        block.

        Each server has an equal share, of at least one."""
        if self._protected:
            most -= verifier.shared.waiting
        upstreams = {each.upstream for each in self._forwarding.values()}
        for upstream in upstreams:
            share = max(1, most // len(upstreams))
            upstream.limits = upstream.limits._replace(requests=min(upstream.limits.requests, share))

    def share_with_children(self) -> None:
        """Count the requests of all processes forked from now on together."""
        for forwarding in self._forwarding.values():
            forwarding.upstream.share_with_children()

    def close(self) -> None:
        """Close the connections to upstream servers."""
        for forwarding in self._forwarding.values():
            forwarding.close()


def _forwarding(proxy: Mapping[str, UpstreamAddress], limits: UpstreamLimits) -> dict[str, Forwarding]:
    """Create one `Upstream` per server, which several paths may share; each has an equal share of the requests."""
    if not proxy:
        return {}
    from daemons.web.gateway.forwarding import Forwarding
    from daemons.web.gateway.upstream import Upstream

    servers = set(proxy.values())
    share = limits._replace(requests=max(1, limits.requests // len(servers)))
    upstreams = {address: Upstream(address, share) for address in servers}
    return {prefix: Forwarding(prefix, upstreams[address]) for prefix, address in proxy.items()}
