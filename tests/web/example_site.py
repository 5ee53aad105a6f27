"""A site to be served, and what is said to a service at the seam."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from daemons.httpd import Httpd
from daemons.serving.conversation.conversation import PENDING, Conversation
from daemons.serving.conversation.service import Peer
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.conversation.with_peer import ConversationWithPeer

#: When its files were written: Sunday, 12 October 2025.
WRITTEN = 1_760_256_000
DATE = "Sun, 12 Oct 2025 08:00:00 GMT"

TEXT = b"Beautiful is better than ugly. " * 40
PICTURE = bytes(range(256)) * 4
LONG = bytes(range(251)) * 1000
SECRET = b"the secret of the moat"


#: Who asks, where nothing else is said.
LOCAL = Peer("127.0.0.1:4242", "127.0.0.1", False)


class Heard(NamedTuple):
    """A response, taken to pieces."""

    status: int
    fields: dict[str, str]
    body: bytes


def make(folder: Path) -> str:
    """A site below `folder`, with secrets beside it and links to them; returns its root."""
    root = folder / "www"
    for name in ("sub", "empty", ".git"):
        (root / name).mkdir(parents=True)
    files = {
        "index.html": b"<!DOCTYPE html><title>home</title>",
        "text.txt": TEXT,
        "ready.css": TEXT,
        "ready.css.gz": gzip.compress(TEXT, 9, mtime=0),
        "stale.css": TEXT,
        "stale.css.gz": gzip.compress(b"what it was before", mtime=0),
        "short.txt": b"short",
        "none.txt": b"",
        "noise.txt": os.urandom(1000),
        "picture.png": PICTURE,
        "long.bin": LONG,
        "a b&c.txt": b"odd",
        "sub/index.html": b"below",
        "empty/<i>.txt": b"escaped",
        "empty/javascript:x": b"no scheme",
        ".hidden": SECRET,
        ".git/config": SECRET,
        "../secret.txt": SECRET,
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
        os.utime(root / name, (WRITTEN, WRITTEN - ("stale.css.gz" in name)))
    (folder / "wwwroot").mkdir()
    (folder / "wwwroot" / "secret.txt").write_bytes(SECRET)
    (root / "out").symlink_to(folder)
    (root / "link.txt").symlink_to(folder / "secret.txt")
    (root / "within.txt").symlink_to("text.txt")
    (root / "null").symlink_to("/dev/zero")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    return str(root)


def service(root: str, **options: Any) -> Httpd:
    """One that serves `root`."""
    return Httpd(Httpd.Options(root=root, **options))


def request(
    path: str,
    *fields: str,
    method: str = "GET",
    version: str = "1.1",
    body: bytes | None = None,
    host: str = "localhost",
) -> bytes:
    """A request."""
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + (body or b"")


@contextmanager
def talking(httpd: Httpd, peer: Peer = LOCAL) -> Iterator[Conversation]:
    """A conversation that is closed, as when its visitor leaves."""
    if httpd.visited:
        conversation: Conversation = ConversationWithPeer(httpd, ServiceBinding(httpd), lambda: peer)
    else:
        conversation = Conversation(httpd)
    assert conversation.open() == b""
    try:
        yield conversation
    finally:
        conversation.close()


def heard(conversation: Conversation, octets: bytes) -> bytes:
    """All that is said to `octets`."""
    said = [conversation.receive(octets)]
    while conversation.state == PENDING:
        said.append(conversation.proceed())
    return b"".join(said)


def parsed(octets: bytes) -> Heard:
    """One response; no field comes twice."""
    head, end, body = octets.partition(b"\r\n\r\n")
    assert end, octets[:1000]
    first, *lines = head.decode("ascii").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Z][A-Za-z -]+", first)
    assert match, first
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines), lines
    return Heard(int(match[1]), fields, body)


def ask(
    httpd: Httpd,
    path: str,
    *fields: str,
    method: str = "GET",
    version: str = "1.1",
    body: bytes | None = None,
    host: str = "localhost",
    peer: Peer = LOCAL,
) -> Heard:
    """What is answered to one request."""
    with talking(httpd, peer) as conversation:
        octets = request(path, *fields, method=method, version=version, body=body, host=host)
        found = parsed(heard(conversation, octets))
        assert conversation.failure is None
    bodiless = method == "HEAD" or found.status in (204, 304)
    if bodiless:
        assert found.body == b""
    else:
        assert int(found.fields["Content-Length"]) == len(found.body)
    assert found.fields["X-Content-Type-Options"] == "nosniff"
    return found
