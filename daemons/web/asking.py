"""For the client `daemons ask`: requests, from the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote


def requests(words: Sequence[bytes]) -> Sequence[bytes]:
    """A GET for each path; the connection is closed behind the last."""
    targets = ["/" + quote(word.removeprefix(b"/"), safe="/?&=%:@!$'()*+,;~") for word in words]
    ends = ["\r\n"] * (len(targets) - 1) + ["Connection: close\r\n\r\n"]
    return [
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{end}".encode() for target, end in zip(targets, ends, strict=True)
    ]
