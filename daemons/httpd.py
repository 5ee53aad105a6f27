"""Serves the files of a folder to browsers: the static tier of a web site.

[daemon]
service = httpd

[httpd]
root = conf/www
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import cast
from urllib.parse import quote

from daemons import DURATION, YES_NO, Ending, Kind, Reply, Service, Talk, or_word, setting
from daemons.framings.http import HTTP, Request
from daemons.web.asking import requests
from daemons.web.conditions import judge, unchanged, written
from daemons.web.files import Files, Folder, IsFolder, Refused
from daemons.web.listing import listing
from daemons.web.ranges import Range, ranges_of
from daemons.web.representations import Chooser, Representation
from daemons.web.responses import CONTINUE, Fields, Second, head, page, phrase

#: Octets of a body that anybody sends here; nobody reads it.
LONGEST_BODY = 64 * 1024

ALLOWED = "GET, HEAD, OPTIONS"

#: Methods that are known, and not for files (RFC 9110, section 9.3; RFC 5789).
KNOWN = frozenset(("POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"))

#: Fields on which an answer depends.
ASKED = frozenset(
    (
        b"accept-encoding",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    )
)


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise ValueError("not a folder")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[^/\0]*[^/\0.][^/\0]*", text):
        raise ValueError("not the name of a file; write index.html")
    return text


FOLDER: Kind[str] = Kind(_folder, str, "folder")
NAME: Kind[str] = Kind(_name, str, "name")


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

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or self.Options())
        self._files = Files(self.options.root, hidden=self.options.hidden)
        self._index = os.fsencode(self.options.index)
        self._chooser = Chooser()
        self._second = Second(0)

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        """For the client: a request for each path; the connection is closed behind the last."""
        return requests(words)

    def talk(self) -> Talk:
        """Answer until the connection is to be closed."""
        reply: Reply | None = None
        while True:
            reply = self.respond((yield reply))

    def apology(self, ending: Ending) -> bytes:
        """500, and no more.  What is wrong with a request, its error says."""
        if ending is not Ending.FAILED:
            return b""
        request = Request()
        request.keep_alive = False
        return cast(bytes, self._error(request, 500, Second(int(time()))))

    def respond(self, message: bytes) -> Reply:
        now = int(time())
        second = self._second
        if second.now != now:
            second = self._second = Second(now)
        known = second.get(message)
        if known is not None:
            return known
        request = cast(Request, message)
        if request.expects:
            return CONTINUE
        reply = self._respond(request, second)
        if type(reply) is bytes:
            second.remember(request, reply)
        return reply

    def _respond(self, request: Request, second: Second) -> Reply:
        if request.method == "OPTIONS":
            return head(request, 204, second, [("Allow", ALLOWED)])
        if request.method not in ("GET", "HEAD"):
            allow = [("Allow", ALLOWED)]
            return self._error(request, 405 if request.method in KNOWN else 501, second, allow)
        path, mark, query = request.path.partition("?")
        try:
            names = self._files.names(path)
            with self._files.folder(names[:-1]) as folder:
                if names[-1]:
                    return self._file(request, second, folder, names[-1])
                return self._index_of(request, second, folder, root=len(names) == 1)
        except IsFolder:
            # No part of the path is empty, so that it cannot begin with //, which would be another host.
            where = quote(path, safe="/%:@!$&'()*+,;=~") + "/" + mark + quote(query, safe="/%:@!$&'()*+,;=~?")
            return self._error(request, 301, second, [("Location", where)])
        except Refused as refused:
            return self._error(request, refused.status, second, [("Retry-After", "1")] * (refused.status == 503))

    def _index_of(self, request: Request, second: Second, folder: Folder, *, root: bool) -> Reply:
        """A folder's index, or the list of what is in it."""
        try:
            return self._file(request, second, folder, self._index)
        except IsFolder:
            pass
        except Refused as refused:
            if refused.status != 404:
                raise
        if not self.options.listing:
            raise Refused(403)
        return self._page(request, 200, second, listing(self._files, folder, root=root))

    def _file(self, request: Request, second: Second, folder: Folder, name: bytes) -> Reply:
        asked = _asked(request)
        with self._chooser.choose(folder, name, asked.get("accept-encoding"), second.now) as chosen:
            return self._answer(request, second, chosen, asked)

    def _freshness(self, now: int) -> list[tuple[str, str]]:
        if self.options.cache is None:
            return [("Cache-Control", "no-cache")]
        seconds = int(self.options.cache)
        return [("Cache-Control", f"max-age={seconds}, must-revalidate"), ("Expires", written(now + seconds))]

    def _answer(self, request: Request, second: Second, chosen: Representation, asked: dict[str, str]) -> Reply:
        """What is said to a request for a file, in the order of RFC 9110, section 13.2.2."""
        status = judge(asked, chosen.validators)
        if status == 304:
            return head(request, 304, second, [*chosen.fields, *self._freshness(second.now)])
        if status != 200:
            return self._error(request, status, second)
        wanted = None
        if (
            request.method == "GET"
            and "range" in asked
            and unchanged(asked.get("if-range"), chosen.validators, second.now)
        ):
            wanted = ranges_of(asked["range"], chosen.size)
        if wanted is None:
            return self._send(request, 200, second, chosen, [(0, chosen.size)])
        if not wanted:
            return self._error(request, 416, second, [("Content-Range", f"bytes */{chosen.size}")])
        return self._send(request, 206, second, chosen, wanted)

    def _send(
        self, request: Request, status: int, second: Second, chosen: Representation, wanted: list[Range]
    ) -> Reply:
        """Octets of a file: of a 200 all, of a 206 the ranges that are wanted."""
        fields, parts = chosen.parts(wanted, partial=status == 206)
        said = head(request, status, second, [*fields, *self._freshness(second.now)])
        return said if request.method == "HEAD" else chosen.body(said, parts)

    def _error(self, request: Request, status: int, second: Second, fields: Fields = ()) -> Reply:
        """A page with the status, and nothing of the request."""
        return self._page(request, status, second, page(f"{status} {phrase(status)}"), fields)

    def _page(self, request: Request, status: int, second: Second, body: bytes, fields: Fields = ()) -> Reply:
        media = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
        said = head(request, status, second, [*fields, ("Cache-Control", "no-cache"), *media])
        return said if request.method == "HEAD" else said + body


def _asked(request: Request) -> dict[str, str]:
    """What the answer depends on, by names in small letters."""
    asked: dict[str, str] = {}
    for name, value in request.headers:
        if (key := name.lower()) in ASKED:
            word, text = key.decode("ascii"), value.decode("latin-1")
            # Several make a list (RFC 9110, section 5.3); where one is no list, that is wrong, and is not there.
            asked[word] = f"{asked[word]}, {text}" if word in asked else text
    return asked
