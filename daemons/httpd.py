"""Serves the files of a folder to browsers: the static tier of a web site.

[daemon]
service = httpd

[httpd]
root = conf/www
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import cast
from urllib.parse import quote

from daemons import COUNT, DURATION, SIZE, YES_NO, Ending, Kind, Reply, Service, Talk, or_word, setting, table
from daemons.framings.http import HTTP, Request
from daemons.web.documents import Documents
from daemons.web.places import PREFIX, Places, names_of
from daemons.web.responses import CONTINUE, Second, error
from daemons.web.static import Static
from daemons.web.store import Store

#: Octets of a body that anybody sends for a file; nobody reads it.
LONGEST_BODY = 64 * 1024

#: Octets of one where somebody does read it, unless [limits] body says otherwise.
LONGEST_DOCUMENT = 1024 * 1024


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise ValueError("not a folder")
    return text


def _store(text: str) -> str:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise ValueError("not a folder")
    if not path.parent.is_dir():
        raise ValueError(f"it would be made when it is needed, but there is no folder {path.parent}")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[^/\0]*[^/\0.][^/\0]*", text):
        raise ValueError("not the name of a file; write index.html")
    return text


FOLDER: Kind[str] = Kind(_folder, str, "folder")
STORE: Kind[str] = Kind(_store, str, "folder")
NAME: Kind[str] = Kind(_name, str, "name")


class Httpd(Service):
    framing = HTTP(body=LONGEST_BODY)
    questions = (b"/",)

    @dataclass(frozen=True)
    class Options:
        """The section [httpd]."""

        root: str = setting(FOLDER, "conf/www", "the folder whose files are served, from the project's folder")
        index: str = setting(NAME, "index.html", "the file that is served for a folder")
        cache: float | None = setting(or_word("no", DURATION), 3600.0, "for how long others may keep an answer")
        hidden: bool = setting(YES_NO, False, "serve files and folders whose names begin with a dot")
        listing: bool = setting(YES_NO, False, "list a folder that has no index")
        document_count: int = setting(COUNT, 1000, "how many documents a folder of [documents] may have")
        document_space: int = setting(SIZE, 100 * 1024**2, "octets of all documents in a folder of [documents]")
        documents: Mapping[str, str] = table(PREFIX, STORE, "below a path, a folder that clients may write to")

        def __post_init__(self) -> None:
            for prefix, folder in self.documents.items():
                if Path(folder).resolve().is_relative_to(Path(self.root).resolve()):
                    raise ValueError(f"[documents] {prefix} = {folder}: it lies in the root; write another folder")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or self.Options())
        said = self.options
        self._static = Static(said.root, said.index, said.cache, hidden=said.hidden, lists=said.listing)
        self._second = Second(0)
        self._documents = Places(
            {
                prefix: Documents(Store(folder, said.document_count, said.document_space))
                for prefix, folder in said.documents.items()
            }
        )
        #: Whether there is more than files.
        self._tables = bool(self._documents)
        if self._tables:
            self.framing = HTTP(body=LONGEST_DOCUMENT)

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        """For the client: a request for each path; the connection is closed behind the last."""
        targets = ["/" + quote(word.removeprefix(b"/"), safe="/?&=%:@!$'()*+,;~") for word in words]
        ends = ["\r\n"] * (len(targets) - 1) + ["Connection: close\r\n\r\n"]
        return [
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{end}".encode()
            for target, end in zip(targets, ends, strict=True)
        ]

    def talk(self) -> Talk:
        """Answer until the connection is to be closed."""
        reply: Reply | None = None
        while True:
            request = cast(Request, (yield reply))
            reply = self.respond(request)
            if not request.keep_alive:
                return reply

    def apology(self, ending: Ending) -> bytes:
        """500, and no more.  What is wrong with a request, its error says."""
        if ending is not Ending.FAILED:
            return b""
        request = Request()
        request.keep_alive = False
        return error(request, 500, Second(int(time())))

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
        if self._tables and (special := self._elsewhere(request, second)) is not None:
            return special
        reply = self._static.answer(request, second)
        if type(reply) is bytes:
            second.remember(request, reply)
        return reply

    def _elsewhere(self, request: Request, second: Second) -> Reply | None:
        """The answer where something else than a file is meant; nothing of it is remembered."""
        names = names_of(request.path.partition("?")[0])
        if names is None:
            return None
        documents = self._documents.find(names)
        if documents is not None:
            return documents.value.answer(request, second, documents)
        return None
