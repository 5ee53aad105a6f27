"""The head of a WSGI application's response: what start_response was given, checked, and what is added to it."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from typing import Any
from wsgiref.simple_server import software_version
from wsgiref.util import is_hop_by_hop

#: A 1xx is no answer; what is not below 600 is no status (RFC 9110, section 15).
_STATUS = re.compile(r"[2-5][0-9][0-9] [ -~\x80-\xff]*+")
#: RFC 9110, section 5.6.2; and PEP 3333: no control characters, among which is the tab.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_VALUE = re.compile(r"[ -~\x80-\xff]*+")

_SERVER = f"Server: {software_version}\r\n".encode("latin-1")

#: The second of `_date_line`, and what it was.
_date: tuple[int, bytes] = (0, b"")


def _date_line() -> bytes:
    """``Date``, made once a second."""
    global _date
    now = int(time.time())
    second, line = _date
    if second != now:
        line = f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii")
        _date = now, line
    return line


def head_of(status: Any, headers: Any) -> list[bytes]:
    """The status line and the fields, each with its end, Date and Server among them.  Raises `TypeError` for what is
    not of the types of PEP 3333, `ValueError` for what must not be said."""
    if not isinstance(status, str):
        raise TypeError(f"the status is {type(status).__name__}; str is expected")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"status {status!r}; 200 to 599, a blank and a reason are expected")
    if not isinstance(headers, list):
        raise TypeError(f"the headers are {type(headers).__name__}; a list of tuples is expected")
    lines = [f"HTTP/1.1 {status}\r\n".encode("latin-1")]
    names: set[str] = set()
    for field in headers:
        if not (isinstance(field, tuple) and len(field) == 2 and all(isinstance(part, str) for part in field)):
            raise TypeError(f"header {field!r}; a tuple of two str is expected")
        name, value = field
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            expected = "a token, and Latin-1 without control characters are expected"
            raise ValueError(f"header {name!r}: {value!r}; {expected}")
        word = name.lower()
        if is_hop_by_hop(word) or word in ("trailer", "proxy-connection"):
            raise ValueError(f"header {name}: it is about the connection, which is the server's")
        names.add(word)
        lines.append(f"{name}: {value}\r\n".encode("latin-1"))
    if "date" not in names:
        lines.append(_date_line())
    if "server" not in names:
        lines.append(_SERVER)
    return lines
