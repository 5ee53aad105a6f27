"""The head of a WSGI application's response: the arguments of start_response, checked, with Date and Server."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from wsgiref.util import is_hop_by_hop

from daemons.framings.cache import FIELD, BoundedCache
from daemons.web.dates import http_date_now
from daemons.web.responses import SERVER

#: A final status, 200 to 599 (RFC 9110, section 15).
_STATUS = re.compile(r"[2-5][0-9][0-9] [ -~\x80-\xff]*")
#: A token (RFC 9110, section 5.6.2), and a value without control characters, including the tab (PEP 3333).
NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[ -~\x80-\xff]*")

_SERVER = f"Server: {SERVER}\r\n".encode("latin-1")

#: Cache of heads, since most applications repeat a few: number of heads, and fields of the longest.
REMEMBERED_COUNT = 256
REMEMBERED_FIELDS = 32
_heads: BoundedCache[tuple[object, ...], Head] = BoundedCache(REMEMBERED_COUNT)


class Head(NamedTuple):
    """The arguments of start_response, checked and encoded."""

    status: int
    #: The status line and the fields, each with its line end.
    lines: tuple[bytes, ...]
    #: Content-Length, if the fields have it.
    length: int | None
    #: Whether the fields have Date and Server.
    dated: bool
    served: bool

    def fields(self) -> list[bytes]:
        """Return the lines, with Date and Server."""
        fields = [*self.lines]
        if not self.dated:
            fields.append(f"Date: {http_date_now()}\r\n".encode("ascii"))
        if not self.served:
            fields.append(_SERVER)
        return fields


def head_of(status: Any, headers: Any) -> Head:
    """Check and encode the arguments of start_response.

    Raises `TypeError` for other types than PEP 3333 allows, and `ValueError` for an invalid status or field."""
    if type(headers) is not list or len(headers) > REMEMBERED_FIELDS:
        return _head_of(status, headers)
    key = (status, *headers)
    try:
        head = _heads.get(key)
    except TypeError:  # unhashable, so not all fields are tuples of str
        return _head_of(status, headers)
    if head is None:
        head = _head_of(status, headers)
        # The size of the application's strings and of the lines.
        _heads.put(key, head, 2 * sum(map(len, head.lines)) + FIELD * len(key))
    return head


def _head_of(status: Any, headers: Any) -> Head:
    if not isinstance(status, str):
        raise TypeError(f"the status is {type(status).__name__}; str is expected")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"status {status!r}; 200 to 599, a space and a reason phrase are expected")
    if not isinstance(headers, list):
        raise TypeError(f"the headers are {type(headers).__name__}; a list of tuples is expected")
    lines = [f"HTTP/1.1 {status}\r\n".encode("latin-1")]
    found: dict[str, list[str]] = {}
    for field in headers:
        if not (isinstance(field, tuple) and len(field) == 2 and all(isinstance(part, str) for part in field)):
            raise TypeError(f"header {field!r}; a tuple of two str is expected")
        name, value = field
        if not (NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            expected = "a token, and Latin-1 without control characters are expected"
            raise ValueError(f"header {name!r}: {value!r}; {expected}")
        word = name.lower()
        if is_hop_by_hop(word) or word in ("trailer", "proxy-connection"):
            raise ValueError(f"header {name}: a hop-by-hop field, which applications must not set")
        found.setdefault(word, []).append(value)
        lines.append(f"{name}: {value}\r\n".encode("latin-1"))
    lengths = found.get("content-length", [])
    if len(lengths) > 1 or not all(value.isascii() and value.isdecimal() for value in lengths):
        raise ValueError(f"Content-Length: {', '.join(lengths)!r}; one number of bytes is expected")
    length = int(lengths[0]) if lengths else None
    return Head(int(status[:3]), tuple(lines), length, "date" in found, "server" in found)
