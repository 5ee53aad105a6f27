"""Subtrees of a site: what holds below a path.

Two spellings of a path are one path: what is compared is its names, each decoded once, as files are looked for.  So
nobody comes to what is below ``/private`` by writing ``/%70rivate``; and paths that others might read in another way,
with an empty name in them, a dot segment, or an encoded slash, are below nothing, and lead nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote, unquote_to_bytes

from daemons.operating.values import Kind

T = TypeVar("T")

#: The names of a path, decoded; the last is empty where the path ends with a slash.
Names = tuple[bytes, ...]

#: What stands in no name.  A backslash may, but to browsers it is a slash.
FORBIDDEN = re.compile(rb"[\0/\\]")

_PATH = re.compile(r"/[!$-.0-;=@-\[\]_a-z~%&'()*+,/]*")


def names_of(path: str) -> Names | None:
    """The names of `path`, the path of a URL without its query; None: it is not one that can be below anything."""
    first, *parts = path.split("/")
    # Decoded after it was split: an encoded slash separates nothing.
    names = tuple(map(unquote_to_bytes, parts))
    if first or not names or b"" in names[:-1] or any(name in (b".", b"..") for name in names):
        return None
    return None if any(map(FORBIDDEN.search, names)) else names


def _prefix(text: str) -> str:
    names = names_of(text) if _PATH.fullmatch(text) else None
    if names is None:
        raise ValueError("not a path; write /name or /name/name, percent-encoded as in a URL")
    # In one spelling, so that two of one path are seen to be the same.
    return "/" + "/".join(quote(name, safe="!$&'()*+,;=:@[]~") for name in names if name)


PREFIX: Kind[str] = Kind(_prefix, str, "path")


class Found(NamedTuple, Generic[T]):
    """What holds for a path."""

    prefix: str
    value: T
    #: The names behind the prefix.
    rest: Names


class Places(Generic[T]):
    """From prefixes to what holds below them, the prefix itself included; the longest one counts."""

    def __init__(self, places: Mapping[str, T]) -> None:
        self._places: dict[Names, tuple[str, T]] = {}
        for prefix, value in places.items():
            names = names_of(prefix)
            assert names is not None, "`PREFIX` has seen to that"
            self._places[names if names != (b"",) else ()] = (prefix, value)
        self._longest = max(map(len, self._places), default=0)

    def __bool__(self) -> bool:
        return bool(self._places)

    def find(self, names: Names) -> Found[T] | None:
        """What holds for the path with these names; None: nothing of this."""
        for length in range(min(self._longest, len(names)), -1, -1):
            found = self._places.get(names[:length])
            if found is not None:
                return Found(*found, names[length:])
        return None
