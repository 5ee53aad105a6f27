"""HTTP requests sent to every web server, and the served files."""

from __future__ import annotations

import json
import random
import string
import xmlrpc.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers.expat import ExpatError


@dataclass(frozen=True)
class Request:
    """One HTTP request, sent repeatedly, and the check of its response."""

    path: str
    right: Callable[[bytes], bool]
    """Return whether a body is correct. Applied before the measured window."""
    least: int
    """Minimum bytes of a response; in the measured window only the length is checked."""
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def closing(self) -> bool:
        """Whether each request has a connection of its own."""
        return self.headers.get("Connection") == "close"


def _pattern(count: int) -> bytes:
    """Return incompressible content, the same in every run."""
    return "".join(random.Random(count).choices(string.ascii_letters, k=count)).encode()


FILES = {"1k.txt": _pattern(1024), "64k.txt": _pattern(64 * 1024)}
"""Files in the served folder."""


def write_files(folder: Path) -> None:
    """Create the served folder."""
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def _file(name: str, **headers: str) -> Request:
    return Request(f"/{name}", FILES[name].__eq__, len(FILES[name]), headers=headers)


def _sum_in_xml(body: bytes) -> bool:
    try:
        values, _ = xmlrpc.client.loads(body)
    except (xmlrpc.client.Error, ExpatError):
        return False
    return values == (8,)


def _sum_in_json(body: bytes) -> bool:
    try:
        return bool(json.loads(body) == {"jsonrpc": "2.0", "result": 8, "id": 1})
    except ValueError:
        return False


SMALL_FILE, LARGE_FILE = _file("1k.txt"), _file("64k.txt")
SMALL_FILE_CLOSING = _file("1k.txt", Connection="close")
HELLO = Request("/", b"hello".__eq__, len(b"hello"))
XML_RPC = Request(
    "/RPC2",
    _sum_in_xml,
    len("<value><int>8</int></value>"),
    "POST",
    {"Content-Type": "text/xml"},
    xmlrpc.client.dumps((3, 5), "add"),
)
JSON_RPC = Request(
    "/",
    _sum_in_json,
    len('{"jsonrpc":"2.0","result":8,"id":1}'),
    "POST",
    {"Content-Type": "application/json"},
    json.dumps({"jsonrpc": "2.0", "method": "add", "params": [3, 5], "id": 1}),
)
