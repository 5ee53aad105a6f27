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
    optional,
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

#: Longest request body, in bytes, where only files are served. It is read and discarded.
LONGEST_BODY = 64 * 1024

#: Longest request body, in bytes, with [documents] or [proxy], unless [limits] body sets another limit.
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
        raise ValueError(f"cannot be created on the first write: there is no folder {path.parent}")
    return str(path)


def _name(text: str) -> str:
    if not re.fullmatch(r"[^/\0]*[^/\0.][^/\0]*", text):
        raise ValueError("not a file name; write index.html")
    return text


FOLDER: FieldType[str] = FieldType(_folder, str, "folder")
STORE: FieldType[str] = FieldType(str, str, "folder")
NAME: FieldType[str] = FieldType(_name, str, "name")


class Httpd(Service):
    """Serves files, and routes the configured paths of a site to redirects, documents and upstream servers."""

    framing = HTTP(body=LONGEST_BODY)
    greets = False
    questions = (b"/",)

    @dataclass(frozen=True)
    class Options:
        """The section [httpd]."""

        root: str = setting(FOLDER, "conf/www", "folder to serve, relative to the project's folder")
        index: str = setting(NAME, "index.html", "file served for a folder")
        cache: float | None = setting(optional("no", DURATION), 3600.0, "how long caches may store a response")
        hidden: bool = setting(YES_NO, False, "serve names that begin with a dot")
        listing: bool = setting(YES_NO, False, "list folders that have no index")
        languages: tuple[str, ...] = setting(
            LANGUAGES, (), "languages of file variants, the default first: index.html.en for index.html"
        )
        document_count: int = setting(COUNT, 1000, "maximum number of documents in a folder of [documents]")
        document_space: int = setting(SIZE, 100 * 1024**2, "maximum size of all documents in a folder of [documents]")
        https: tuple[str, int] | None = setting(
            optional("no", HTTPS), None, "TLS port or host to which requests without TLS are redirected"
        )
        insecure: bool = setting(YES_NO, False, "accept passwords without TLS, where they can be read on the network")
        upstream_timeout: float = setting(
            DURATION, 30.0, "longest pause of an upstream server, before and within a response"
        )
        upstream_total: float | None = setting(
            optional("no", DURATION), 300.0, "longest total wait for one response of an upstream server"
        )
        upstream_requests: int = setting(
            COUNT, 12, "maximum concurrent requests to upstream servers, shared equally among them"
        )
        redirects: Mapping[str, Redirect] = table(REDIRECT_PATH, REDIRECT, "redirect a path, or every path below it")
        protected: Mapping[str, Realm] = table(PREFIX, REALM, "below a path, require a password: realm and users file")
        documents: Mapping[str, str] = table(PREFIX, STORE, "below a path, a folder that clients may write to", _store)
        proxy: Mapping[str, UpstreamAddress] = table(
            PREFIX, UPSTREAM, "below a path, forward requests to an upstream server", resolve
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
        #: Routes the paths that are not plain files; None if there are none.
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
        """Close the connections to upstream servers."""
        if self._router is not None:
            self._router.close()

    def limit_blocking_calls(self, most: int) -> None:
        """Respond with 503 beyond `most` concurrent requests to upstream servers."""
        if self._router is not None:
            self._router.limit_blocking_calls(most)

    def share_with_children(self) -> None:
        """Apply ``upstream_requests`` to the requests of all child processes together."""
        if self._router is not None:
            self._router.share_with_children()

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        """Return the requests of ``daemons ask``: a GET for each path; the last one closes the connection."""
        return requests(words)

    def talk(self, peer: Peer) -> Talk:
        """Respond to one peer's requests until the connection is to be closed."""
        https = None if peer.secure else self.options.https
        reply: Reply | None = None
        while True:
            request = cast(Request, (yield reply))
            if https is None or request.expects:
                reply, entry = self._respond(request, peer)
            else:
                reply = to_https(request, ResponseCache(int(time())), Https(*https))
                entry = self._entry(request, reply)
            if entry is not None and self.request_log is not None:
                self.request_log.log(peer.host, entry)
            # A forwarded response of unknown length ends with the connection.
            if request.keep_alive and getattr(reply, "closes", False):
                return reply

    def apology(self, ending: Ending) -> bytes:
        """Return a 500 response after a failure.  For malformed requests, the framing's error is the response."""
        if ending is not Ending.FAILED:
            return b""
        request = Request()
        request.keep_alive = False
        return error(request, 500, ResponseCache(int(time())))

    def _respond(self, request: Request, peer: Peer) -> tuple[Reply, tuple[str, str] | None]:
        """Return the response and its log entry."""
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
            reply, shareable = self._static.respond(request, cache), True
        else:
            if self._router.sets_user:
                # Another thread may be handling the same request object, for a peer that sent the same head.
                request = request.with_body(request.body)
            reply, shareable = self._router.respond(request, cache, peer)
        entry = self._entry(request, reply)
        if shareable and type(reply) is bytes:
            cache.put(request, reply, entry)
        return reply, entry

    def _entry(self, request: Request, reply: Reply) -> tuple[str, str] | None:
        return (
            None if self.request_log is None else self.request_log.entry(request, *status_and_size(reply), request.user)
        )
