"""What is asked of every web server: requests of HTTP, and the files that are asked for."""

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
    """One request of HTTP, which is asked again and again, and how its answer is told from a wrong one."""

    path: str
    right: Callable[[bytes], bool]
    """Whether a body is the answer. It is asked of some before the clock starts."""
    least: int
    """Octets of an answer, at least; while the clock runs no more is looked at than their number."""
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def closing(self) -> bool:
        """Whether each request has a connection of its own."""
        return self.headers.get("Connection") == "close"


def _octets(count: int) -> bytes:
    """The same in every run; nothing that a server could want to compress while it is asked for."""
    return "".join(random.Random(count).choices(string.ascii_letters, k=count)).encode()


FILES = {"1k.txt": _octets(1024), "64k.txt": _octets(64 * 1024)}
"""What is in the folder that is served."""


def write_files(folder: Path) -> None:
    """Makes that folder."""
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
