"""Documents that clients create, read, replace and delete (RFC 9110, section 9.3)."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable

from daemons.framings.http import Request
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import Reply
from daemons.web.dates import http_date
from daemons.web.files.conditions import Validators, evaluate_write_preconditions, tag_of
from daemons.web.files.lookup import Identity, IsFolder, Refused
from daemons.web.files.media import suffix_for
from daemons.web.files.representations import Chooser
from daemons.web.files.static import conditional_response, selecting_fields
from daemons.web.responses import ResponseCache, error, head, make_response, refuse_method
from daemons.web.site.prefix_map import Names
from daemons.web.site.store import NAME, Store

log = logging.getLogger(__name__)

#: Methods of the collection, and of a document in it.
OF_ALL, OF_ONE = "GET, HEAD, POST, OPTIONS", "GET, HEAD, PUT, DELETE, OPTIONS"

#: Fields sent with a document.  It may be replaced at any time, so caches must revalidate it.  Its author may be a
#: stranger: in a sandbox, browsers display HTML, but do not let its scripts act for the user.
DOCUMENT_FIELDS = [("Cache-Control", "no-cache"), ("Content-Security-Policy", "sandbox")]

#: Validators of the collection: it always exists, and has neither an entity tag nor a date.
_COLLECTION = Validators("", 0)

_NAMES = "<p>A document's name has up to 100 letters, digits and <code>. _ ~ -</code>, and does not begin with a dot.\n"
_CODED = "<p>Documents are stored without a Content-Encoding.\n"
_FORM = "<p>Form data is not stored; send the document itself, with its own Content-Type.\n"
_ORIGIN = "<p>The Origin of the request is another site.\n"

#: Media types of form data, which is rarely meant to be stored.
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Documents:
    """Responds to requests for the documents in a `Store`.  `hides` is called with a document's name and identity, and
    returns whether it is left out of the list."""

    def __init__(self, store: Store, hides: Callable[[bytes, Identity | None], bool]) -> None:
        self._store = store
        self._hides = hides

    def identity(self, rest: Names) -> Identity | None:
        """Return the identity of the document at `rest`, the names after the prefix; None if it does not exist."""
        name = _name_of(rest)
        return None if name is None else self._store.identity(name)

    def respond(self, request: Request, cache: ResponseCache, peer: Peer, prefix: str, rest: Names) -> Reply:
        """Return the response to a request for the collection at `prefix`, or for the document at `rest` below it."""
        base = prefix.rstrip("/")
        name = _name_of(rest)
        allowed = OF_ALL if name is None else OF_ONE
        if request.method not in allowed.split(", ") or request.method == "OPTIONS":
            return refuse_method(request, cache, allowed)
        try:
            if request.method not in ("GET", "HEAD") and _from_elsewhere(request):
                return error(request, 403, cache, content=_ORIGIN)
            if name is None:
                if request.method == "POST":
                    return self._create(request, cache, base)
                match = selecting_fields(request).get("if-match")
                if match is not None and evaluate_write_preconditions({"if-match": match}, _COLLECTION):
                    return error(request, 412, cache)
                return self._list(request, cache, base)
            if not NAME.fullmatch(name):
                wrong = (400, _NAMES) if request.method == "PUT" else (404, "")
                return error(request, wrong[0], cache, content=wrong[1])
            if request.method == "PUT":
                return self._replace(request, cache, base, name)
            if request.method == "DELETE":
                self._store.delete(name, lambda have: evaluate_write_preconditions(selecting_fields(request), have))
                return head(request, 204, cache, [])
            with self._store.open() as folder, Chooser.unencoded(folder, name, cache.now) as chosen:
                return conditional_response(request, cache, chosen, selecting_fields(request), DOCUMENT_FIELDS)
        except IsFolder:
            return error(request, 404, cache)
        except Refused as refused:
            if refused.status != 404 and isinstance(reason := refused.__cause__, OSError):
                # Such as a full disk, or a folder that this user may not write to: the operator has to know.
                log.warning("[documents] %s: %s: %s", prefix, request.method, (reason.strerror or str(reason)).lower())
            later = [("Retry-After", "1")] * (refused.status == 503)
            return error(request, refused.status, cache, later)

    def _list(self, request: Request, cache: ResponseCache, base: str) -> Reply:
        about = [
            {
                "name": entry.name,
                "href": f"{base}/{entry.name}",
                "size": entry.size,
                "modified": http_date(entry.modified // 10**9),
                "etag": tag_of(entry.modified, entry.size),
            }
            for entry in self._store.entries()
            if not self._hides(name := entry.name.encode("ascii"), self._store.identity(name))
        ]
        return make_response(request, 200, cache, json.dumps(about, indent=1).encode() + b"\n", (), "application/json")

    def _create(self, request: Request, cache: ResponseCache, base: str) -> Reply:
        """Store a document under a new random name, with a suffix of its media type."""
        media = request.field(b"content-type").partition(";")[0].strip(" \t").lower()
        if media in _FORMS:
            return error(request, 415, cache, content=_FORM)
        if wrong := _unfit(request, cache):
            return wrong
        if status := evaluate_write_preconditions(selecting_fields(request), _COLLECTION):
            return error(request, status, cache)
        name = secrets.token_hex(8) + suffix_for(media)
        _, validators = self._store.put(name.encode("ascii"), request.body, lambda have: 409 if have else 0)
        where = f"{base}/{name}"
        fields = [("Location", where), ("ETag", validators.tag)]
        about = json.dumps({"name": name, "href": where, "size": len(request.body), "etag": validators.tag})
        return make_response(request, 201, cache, about.encode() + b"\n", fields, "application/json")

    def _replace(self, request: Request, cache: ResponseCache, base: str, name: bytes) -> Reply:
        if wrong := _unfit(request, cache):
            return wrong
        new, validators = self._store.put(
            name, request.body, lambda have: evaluate_write_preconditions(selecting_fields(request), have)
        )
        fields = [("ETag", validators.tag)]
        if not new:
            return head(request, 204, cache, fields)
        fields.append(("Location", f"{base}/{name.decode('ascii')}"))
        return make_response(request, 201, cache, b"", fields, "text/plain")


def _name_of(rest: Names) -> bytes | None:
    """Return the name of a document; None for the collection.  A name with a slash is invalid later."""
    return None if rest in ((), (b"",)) else b"/".join(rest)


def _unfit(request: Request, cache: ResponseCache) -> bytes:
    """Return an error response to a body that is not a complete, unencoded document; else empty."""
    if request.field(b"content-range"):
        return error(request, 400, cache)  # RFC 9110, section 14.5
    if request.field(b"content-encoding").lower() not in ("", "identity"):
        return error(request, 415, cache, content=_CODED)
    return b""


def _from_elsewhere(request: Request) -> bool:
    """Return whether the request comes from a page of another site: the browser would send the user's password with
    it."""
    origin = request.field(b"origin")
    return bool(origin) and origin.partition("://")[2].lower() != request.field(b"host").lower()
