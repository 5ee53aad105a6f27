"""Requests that ``daemons ask`` sends, from its command-line arguments."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote


def requests(words: Sequence[bytes]) -> Sequence[bytes]:
    """Return a GET request for each path; the last one closes the connection."""
    targets = ["/" + quote(word.removeprefix(b"/"), safe="/?&=%:@!$'()*+,;~") for word in words]
    ends = ["\r\n"] * (len(targets) - 1) + ["Connection: close\r\n\r\n"]
    return [
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{end}".encode() for target, end in zip(targets, ends, strict=True)
    ]
