"""Serves the files of a folder to browsers: the static tier of a web site.

[daemon]
service = httpd

[httpd]
root = conf/www
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import cast

from daemons import (
    COUNT,
    DURATION,
    SIZE,
    YES_NO,
    Ending,
    FieldType,
    Peer,
    Reply,
    Service,
    Talk,
    or_word,
    setting,
    table,
)
from daemons.framings.http import HTTP, Request
from daemons.web.asking import requests
from daemons.web.files.languages import LANGUAGES
from daemons.web.files.static import Static
from daemons.web.gateway.upstream_address import UPSTREAM, UpstreamAddress, UpstreamLimits, resolve
from daemons.web.responses import CONTINUE, ResponseCache, error, status_and_size
from daemons.web.site.prefix_map import PREFIX
from daemons.web.site.protection import REALM, Protection, Realm
from daemons.web.site.redirects import HTTPS, REDIRECT, REDIRECT_PATH, Https, Redirect, to_https
from daemons.web.site.router import SiteRouter, find_conflict
from daemons.web.site.store import Store

#: Octets of a body that anybody sends for a file; nobody reads it.
LONGEST_BODY = 64 * 1024

#: Octets of one where somebody does read it, unless [limits] body says otherwise.
LONGEST_DOCUMENT = 1024 * 1024


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise ValueError("not a folder")
    return text


def _store(text: str, where: Callable[[str], Path]) -> str:
    path = where(text)
    if path.exists() and not path.is_dir():
        raise ValueError("not a folder")
    if not path.parent.is_dir():
        raise ValueError(f"it would be made when it is needed, but there is no folder {path.parent}")
    return str(path)


def _name(text: str) -> str:
    if not re.fullmatch(r"[^/\0]*[^/\0.][^/\0]*", text):
        raise ValueError("not the name of a file; write index.html")
    return text


FOLDER: FieldType[str] = FieldType(_folder, str, "folder")
STORE: FieldType[str] = FieldType(str, str, "folder")
NAME: FieldType[str] = FieldType(_name, str, "name")

#: Who asks, where it does not matter.
ANONYMOUS = Peer("nobody", "0.0.0.0", False)


class Httpd(Service):
    framing = HTTP(body=LONGEST_BODY)
    greets = False
    questions = (b"/",)

    @dataclass(frozen=True)
    class Options:
        """The section [httpd]."""

        root: str = setting(FOLDER, "conf/www", "the folder whose files are served, from the project's folder")
        index: str = setting(NAME, "index.html", "the file that is served for a folder")
        cache: float | None = setting(or_word("no", DURATION), 3600.0, "for how long others may keep an answer")
        hidden: bool = setting(YES_NO, False, "serve files and folders whose names begin with a dot")
        listing: bool = setting(YES_NO, False, "list a folder that has no index")
        languages: tuple[str, ...] = setting(
            LANGUAGES, (), "in which files may be, the default first: index.html.en for index.html"
        )
        document_count: int = setting(COUNT, 1000, "how many documents a folder of [documents] may have")
        document_space: int = setting(SIZE, 100 * 1024**2, "octets of all documents in a folder of [documents]")
        https: tuple[str, int] | None = setting(
            or_word("no", HTTPS), None, "where the same is to be had over TLS, and who comes without it is sent to"
        )
        insecure: bool = setting(YES_NO, False, "ask for passwords where others can read them, too: without TLS")
        upstream_timeout: float = setting(
            DURATION, 30.0, "longest pause of a server of [proxy], before a response and within it"
        )
        upstream_total: float | None = setting(
            or_word("no", DURATION), 300.0, "longest wait for all of one response of a server of [proxy]"
        )
        upstream_requests: int = setting(
            COUNT, 12, "requests in progress at the servers of [proxy], each of which has an equal share"
        )
        redirects: Mapping[str, Redirect] = table(
            REDIRECT_PATH, REDIRECT, "from a path, or all below it, to somewhere else"
        )
        protected: Mapping[str, Realm] = table(PREFIX, REALM, "below a path, who may see it: a realm, and its users")
        documents: Mapping[str, str] = table(PREFIX, STORE, "below a path, a folder that clients may write to", _store)
        proxy: Mapping[str, UpstreamAddress] = table(
            PREFIX, UPSTREAM, "below a path, the server behind this one that answers", resolve
        )

        def __post_init__(self) -> None:
            wrong = find_conflict(self.root, self.redirects, self.protected, self.documents, self.proxy)
            if wrong:
                raise ValueError(wrong)

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or self.Options())
        options = self.options
        self._static = Static(
            options.root,
            options.index,
            options.cache,
            hidden=options.hidden,
            lists=options.listing,
            languages=options.languages,
        )
        self._cache = ResponseCache(0)
        #: What is not simply a file; None: nothing.
        self._router: SiteRouter | None = None
        if options.redirects or options.protected or options.documents or options.proxy:
            self._router = self._make_router()
            self.blocks = self._router.blocks
            if self._router.takes_bodies:
                self.framing = HTTP(body=LONGEST_DOCUMENT)

    def _make_router(self) -> SiteRouter:
        options = self.options
        return SiteRouter(
            self._static,
            options.redirects,
            {path: Protection(realm, path, insecure=options.insecure) for path, realm in options.protected.items()},
            {
                path: Store(folder, options.document_count, options.document_space)
                for path, folder in options.documents.items()
            },
            options.proxy,
            UpstreamLimits(options.upstream_timeout, options.upstream_total, options.upstream_requests),
        )

    def close(self) -> None:
        """Close the connections to servers behind this one."""
        if self._router is not None:
            self._router.close()

    def bound_waiting(self, most: int) -> None:
        """Answer 503 beyond so many requests in progress at the servers of [proxy]."""
        if self._router is not None:
            self._router.bound_waiting(most)

    def share_with_children(self) -> None:
        """Have ``upstream_requests`` bound the requests of all child processes together."""
        if self._router is not None:
            self._router.share_with_children()

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        """For the client: a request for each path; the connection is closed behind the last."""
        return requests(words)

    def talk_with(self, peer: Peer) -> Talk:
        """Answer until the connection is to be closed, where it matters who asks."""
        https = None if peer.secure else self.options.https
        reply: Reply | None = None
        while True:
            request = cast(Request, (yield reply))
            if https is None or request.expects:
                reply, entry = self._respond(request, peer)
            else:
                reply = to_https(request, ResponseCache(int(time())), Https(*https))
                entry = self._entry(request, reply)
            if entry is not None and self.requests is not None:
                self.requests.tell(peer.host, entry)
            # An answer that was passed on may have no other end than that of the connection.
            if request.keep_alive and getattr(reply, "closes", False):
                return reply

    @property
    def visited(self) -> bool:
        """Whether it matters who asks."""
        return bool(self.requests or self.options.https or (self._router is not None and self._router.visited))

    def apology(self, ending: Ending) -> bytes:
        """500, and no more.  What is wrong with a request, its error says."""
        if ending is not Ending.FAILED:
            return b""
        request = Request()
        request.keep_alive = False
        return error(request, 500, ResponseCache(int(time())))

    def respond(self, message: bytes, peer: Peer = ANONYMOUS) -> Reply:
        return self._respond(cast(Request, message), peer)[0]

    def _respond(self, request: Request, peer: Peer) -> tuple[Reply, tuple[str, str] | None]:
        """What is said, and what the log says of it."""
        now = int(time())
        cache = self._cache
        if cache.now != now:
            cache = self._cache = ResponseCache(now)
        known = cache.get(request)
        if known is not None:
            return known
        if request.expects:
            return CONTINUE, None
        if self._router is None:
            reply, for_all = self._static.respond(request, cache), True
        else:
            if self._router.sets_user:
                # Another thread may be answering a peer that has sent the same head, with the same object.
                request = request.with_body(request.body)
            reply, for_all = self._router.respond(request, cache, peer)
        entry = self._entry(request, reply)
        if for_all and type(reply) is bytes:
            cache.remember(request, reply, entry)
        return reply, entry

    def _entry(self, request: Request, reply: Reply) -> tuple[str, str] | None:
        return None if self.requests is None else self.requests.entry(request, *status_and_size(reply), request.user)
