"""The files below a root, as a browser asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

from daemons.framings.http import Request
from daemons.serving.conversation.service import Reply
from daemons.web.dates import http_date
from daemons.web.files.conditions import evaluate_preconditions, unchanged
from daemons.web.files.languages import Languages
from daemons.web.files.listing import listing
from daemons.web.files.lookup import Files, Folder, IsFolder, Refused, identity_of
from daemons.web.files.ranges import Range, ranges_of
from daemons.web.files.representations import COMPRESSED, Chooser, Representation
from daemons.web.responses import ResponseCache, error, head, make_response, refuse_method
from daemons.web.site.gate import Gate
from daemons.web.site.prefix_map import Names

ALLOWED = "GET, HEAD, OPTIONS"

#: Fields on which an answer depends.
SELECTING_FIELDS = frozenset(
    (
        b"accept-encoding",
        b"accept-language",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    )
)


class Static:
    """Answers with the files below `root`.

    index
        The file that is served for a folder.
    cache
        For how many seconds others may keep an answer; None: not without asking again.
    hidden, lists
        Whether files are shown whose names begin with a dot; and folders that have no index.
    languages
        In which files may be, the default first.
    """

    def __init__(
        self,
        root: str,
        index: str,
        cache: float | None,
        *,
        hidden: bool = False,
        lists: bool = False,
        languages: tuple[str, ...] = (),
    ) -> None:
        self.files = Files(root, hidden=hidden)
        self._index = os.fsencode(index)
        self._max_age = cache
        self._lists = lists
        self._chooser = Chooser()
        self._languages = Languages(languages) if languages else None

    def respond(self, request: Request, cache: ResponseCache, gate: Gate | None = None) -> Reply:
        """Return the response to a request. `gate` checks each file that is opened for it."""
        if request.method not in ("GET", "HEAD"):
            return refuse_method(request, cache, ALLOWED)
        path, mark, query = request.path.partition("?")
        try:
            names = self.files.names(path)
            try:
                with self.files.folder(names[:-1], gate) as folder:
                    return self._in(folder, names, request, cache, gate)
            except IsFolder:
                if gate is not None:
                    with self.files.folder(names, gate) as folder:
                        gate.check(folder.entered)
                # No part of the path is empty, so that it cannot begin with //, which would be another host.
                where = quote(path, safe="/%:@!$&'()*+,;=~") + "/" + mark + quote(query, safe="/%:@!$&'()*+,;=~?")
                return error(request, 301, cache, [("Location", where)])
        except Refused as refused:
            return error(request, refused.status, cache, [("Retry-After", "1")] * (refused.status == 503))

    def _in(self, folder: Folder, names: Names, request: Request, cache: ResponseCache, gate: Gate | None) -> Reply:
        """Return the response to a request for a file in `folder`, or for `folder` itself."""
        try:
            if gate is not None:
                gate.check_name(folder, names[-1])
            if names[-1]:
                return self._file(request, cache, folder, names[-1], gate)
            return self._index_of(request, cache, folder, gate, root=len(names) == 1)
        except Refused as refused:
            # The existence of a protected file is not disclosed either.
            if gate is not None:
                found = refused.found
                gate.check(folder.entered, *(() if found is None else (identity_of(found), found.st_nlink)))
            raise

    def variants(self, name: bytes) -> Iterator[bytes]:
        """The names of the files that may be served for `name`, without itself."""
        yield name + COMPRESSED
        if self._languages is not None:
            for suffix in self._languages.suffixes:
                yield name + suffix
                yield name + suffix + COMPRESSED

    def others(self, names: Names) -> Iterator[Names]:
        """Further names of what is found at `names`: the index for a folder, and for a compressed file, or one in a
        certain language, those at which it is chosen."""
        *above, name = names
        if not name:
            yield (*above, self._index)
        while bare := self._bare(name):
            name = bare
            yield (*above, name)

    def _bare(self, name: bytes) -> bytes:
        """The name without a suffix that is no part of it; nothing where there is no such suffix."""
        if name.endswith(COMPRESSED):
            return name.removesuffix(COMPRESSED)
        return b"" if self._languages is None else self._languages.bare(name)

    def _index_of(
        self, request: Request, cache: ResponseCache, folder: Folder, gate: Gate | None, *, root: bool
    ) -> Reply:
        """A folder's index, or the list of what is in it."""
        try:
            return self._file(request, cache, folder, self._index, gate)
        except IsFolder:
            pass
        except Refused as refused:
            if refused.status != 404:
                raise
        if not self._lists:
            raise Refused(403)
        if gate is not None:
            cache = gate.check(folder.entered)
        return make_response(request, 200, cache, listing(self.files, folder, gate, root=root))

    def _file(self, request: Request, cache: ResponseCache, folder: Folder, name: bytes, gate: Gate | None) -> Reply:
        asked = selecting_fields(request)
        variant = None
        if self._languages is not None:
            variant = self._languages.choose(folder, name, asked.get("accept-language"))
            name = variant.name
        with self._chooser.choose(folder, name, asked.get("accept-encoding"), cache.now, variant) as chosen:
            if gate is not None:
                cache = gate.check(folder.entered, chosen.file.identity, chosen.file.links)
            return conditional_response(request, cache, chosen, asked, self._freshness(cache.now))

    def _freshness(self, now: int) -> list[tuple[str, str]]:
        if self._max_age is None:
            return [("Cache-Control", "no-cache")]
        seconds = int(self._max_age)
        return [("Cache-Control", f"max-age={seconds}, must-revalidate"), ("Expires", http_date(now + seconds))]


def selecting_fields(request: Request) -> dict[str, str]:
    """What the answer depends on, by names in small letters."""
    asked: dict[str, str] = {}
    for name, value in request.headers:
        if (key := name.lower()) in SELECTING_FIELDS:
            word, text = key.decode("ascii"), value.decode("latin-1")
            # Several make a list (RFC 9110, section 5.3); where one is no list, that is wrong, and is not there.
            asked[word] = f"{asked[word]}, {text}" if word in asked else text
    return asked


def conditional_response(
    request: Request,
    cache: ResponseCache,
    chosen: Representation,
    asked: dict[str, str],
    more: list[tuple[str, str]],
) -> Reply:
    """What is said to a GET or HEAD of what was chosen, in the order of RFC 9110, section 13.2.2; with `more` where
    there is something to be kept."""
    status = evaluate_preconditions(asked, chosen.validators)
    if status == 304:
        return head(request, 304, cache, [*chosen.fields, *more])
    if status != 200:
        return error(request, status, cache)
    wanted: list[Range] | None = None
    if request.method == "GET" and "range" in asked and unchanged(asked.get("if-range"), chosen.validators, cache.now):
        wanted = ranges_of(asked["range"], chosen.size)
    if wanted is not None and not wanted:
        return error(request, 416, cache, [("Content-Range", f"bytes */{chosen.size}")])
    partial = wanted is not None
    # Of a 200 all, of a 206 the ranges that are wanted.
    fields, parts = chosen.parts(wanted or [(0, chosen.size)], partial=partial)
    response_bytes = head(request, 206 if partial else 200, cache, [*fields, *more])
    return response_bytes if request.method == "HEAD" else chosen.body(response_bytes, parts)
