"""Serves the files below a root: GET and HEAD."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

from daemons.framings.http import Request
from daemons.serving.conversation.reply import Reply
from daemons.web.dates import http_date
from daemons.web.files.conditions import evaluate_if_range, evaluate_preconditions
from daemons.web.files.languages import Languages
from daemons.web.files.listing import listing
from daemons.web.files.lookup import Files, Folder, IsFolder, Refused, identity_of
from daemons.web.files.ranges import Range, ranges_of
from daemons.web.files.representations import COMPRESSED, Chooser, Representation
from daemons.web.responses import ResponseCache, error, head, make_response, refuse_method
from daemons.web.site.gate import Gate
from daemons.web.site.prefix_map import Names

ALLOWED = "GET, HEAD, OPTIONS"

#: Request fields on which a response depends.
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
    """Serves the files below `root`.

    index
        Name of the file that is served for a folder.
    cache
        Seconds for which caches may store a response; None: they must revalidate it.
    hidden, lists
        Whether to serve names that begin with a dot, and to list folders without an index.
    languages
        Tags of the languages of file variants, the default first.
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
                # No name is empty, so the path cannot begin with //, which would be another host.
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
        """Yield the names of variants that may be served for `name`."""
        yield name + COMPRESSED
        if self._languages is not None:
            for suffix in self._languages.suffixes:
                yield name + suffix
                yield name + suffix + COMPRESSED

    def other_names(self, names: Names) -> Iterator[Names]:
        """Yield further paths of the file at `names`: the index of a folder, and the paths for which a variant is
        selected."""
        *above, name = names
        if not name:
            yield (*above, self._index)
        while bare := self._bare(name):
            name = bare
            yield (*above, name)

    def _bare(self, name: bytes) -> bytes:
        """Return a variant's name without its last suffix; empty if it has none."""
        if name.endswith(COMPRESSED):
            return name.removesuffix(COMPRESSED)
        return b"" if self._languages is None else self._languages.bare(name)

    def _index_of(
        self, request: Request, cache: ResponseCache, folder: Folder, gate: Gate | None, *, root: bool
    ) -> Reply:
        """Return a response with a folder's index, or its listing."""
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
        fields = selecting_fields(request)
        variant = None
        if self._languages is not None:
            variant = self._languages.choose(folder, name, fields.get("accept-language"))
            name = variant.name
        with self._chooser.choose(folder, name, fields.get("accept-encoding"), cache.now, variant) as chosen:
            if gate is not None:
                cache = gate.check(folder.entered, chosen.file.identity, chosen.file.links)
            return conditional_response(request, cache, chosen, fields, self._freshness(cache.now))

    def _freshness(self, now: int) -> list[tuple[str, str]]:
        if self._max_age is None:
            return [("Cache-Control", "no-cache")]
        seconds = int(self._max_age)
        return [("Cache-Control", f"max-age={seconds}, must-revalidate"), ("Expires", http_date(now + seconds))]


def selecting_fields(request: Request) -> dict[str, str]:
    """Return the fields on which the response depends, with lower-case names."""
    fields: dict[str, str] = {}
    for name, value in request.headers:
        if (key := name.lower()) in SELECTING_FIELDS:
            word, text = key.decode("ascii"), value.decode("latin-1")
            # Repeated fields are joined to a list (RFC 9110, section 5.3); if they are not lists, the value is invalid.
            fields[word] = f"{fields[word]}, {text}" if word in fields else text
    return fields


def conditional_response(
    request: Request,
    cache: ResponseCache,
    chosen: Representation,
    fields: dict[str, str],
    more: list[tuple[str, str]],
) -> Reply:
    """Evaluate the conditions of a GET or HEAD request (RFC 9110, section 13.2.2), and return the response.

    `more` are fields of responses that caches may store: 200, 206 and 304."""
    status = evaluate_preconditions(fields, chosen.validators)
    if status == 304:
        return head(request, 304, cache, [*chosen.fields, *more])
    if status != 200:
        return error(request, status, cache)
    wanted: list[Range] | None = None
    if (
        request.method == "GET"
        and "range" in fields
        and evaluate_if_range(fields.get("if-range"), chosen.validators, cache.now)
    ):
        wanted = ranges_of(fields["range"], chosen.size)
    if wanted is not None and not wanted:
        return error(request, 416, cache, [("Content-Range", f"bytes */{chosen.size}")])
    partial = wanted is not None
    # 200 has the whole representation, 206 the requested ranges.
    response_fields, parts = chosen.parts(wanted or [(0, chosen.size)], partial=partial)
    response_bytes = head(request, 206 if partial else 200, cache, [*response_fields, *more])
    return response_bytes if request.method == "HEAD" else chosen.body(response_bytes, parts)
