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
from functools import partial
from pathlib import Path
from time import time
from typing import cast
from urllib.parse import quote

from daemons import COUNT, DURATION, SIZE, YES_NO, Ending, Kind, Reply, Service, Talk, Visitor, or_word, setting, table
from daemons.framings.http import HTTP, Request
from daemons.web.documents import Documents
from daemons.web.places import PREFIX, Places, names_of
from daemons.web.protection import REALM, Protection, Realm
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


def _lies_in(path: str, folder: str) -> bool:
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def _name(text: str) -> str:
    if not re.fullmatch(r"[^/\0]*[^/\0.][^/\0]*", text):
        raise ValueError("not the name of a file; write index.html")
    return text


FOLDER: Kind[str] = Kind(_folder, str, "folder")
STORE: Kind[str] = Kind(_store, str, "folder")
NAME: Kind[str] = Kind(_name, str, "name")

#: Who asks, where it does not matter.
NOBODY = Visitor("nobody", "0.0.0.0", False)


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
        insecure: bool = setting(YES_NO, False, "ask for passwords where others can read them, too: without TLS")
        protected: Mapping[str, Realm] = table(PREFIX, REALM, "below a path, who may see it: a realm, and its users")
        documents: Mapping[str, str] = table(PREFIX, STORE, "below a path, a folder that clients may write to")

        def __post_init__(self) -> None:
            for prefix, folder in self.documents.items():
                if _lies_in(folder, self.root):
                    raise ValueError(f"[documents] {prefix} = {folder}: it lies in the root; write another folder")
            for prefix, realm in self.protected.items():
                if any(_lies_in(realm.file, folder) for folder in (self.root, *self.documents.values())):
                    raise ValueError(f"[protected] {prefix}: {realm.file} would be served; write another file")

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
        self._protected = Places(
            {prefix: Protection(realm, insecure=said.insecure) for prefix, realm in said.protected.items()}
        )
        if self._protected:
            self.blocks = "[protected]"  # to verify a password takes a fifth of a second
        #: Whether there is more than files.
        self._tables = bool(self._documents or self._protected)
        if self._documents:
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
        return self._talk(self.respond)

    def talk_with(self, visitor: Visitor) -> Talk:
        """The same, where it matters who asks."""
        return self._talk(partial(self.respond, visitor=visitor))

    @property
    def visited(self) -> bool:
        """Whether it does."""
        return bool(self._protected)

    def _talk(self, respond: Callable[[bytes], Reply]) -> Talk:
        reply: Reply | None = None
        while True:
            request = cast(Request, (yield reply))
            reply = respond(request)
            if not request.keep_alive:
                return reply

    def apology(self, ending: Ending) -> bytes:
        """500, and no more.  What is wrong with a request, its error says."""
        if ending is not Ending.FAILED:
            return b""
        request = Request()
        request.keep_alive = False
        return error(request, 500, Second(int(time())))

    def respond(self, message: bytes, visitor: Visitor = NOBODY) -> Reply:
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
        if self._tables and (special := self._elsewhere(request, second, visitor)) is not None:
            return special
        reply = self._static.answer(request, second)
        if type(reply) is bytes:
            second.remember(request, reply)
        return reply

    def _elsewhere(self, request: Request, second: Second, visitor: Visitor) -> Reply | None:
        """The answer where something else than a file is meant; nothing of it is remembered."""
        names = names_of(request.path.partition("?")[0])
        if names is None:
            return None
        protected = self._protected.find(names)
        if protected is not None:
            refusal = protected.value.refusal(request, second, visitor)
            if refusal is not None:
                return refusal
            second = Second(second.now, private=True)
        documents = self._documents.find(names)
        if documents is not None:
            return documents.value.answer(request, second, documents)
        return None if protected is None else self._static.answer(request, second)
