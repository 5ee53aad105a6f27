"""An example site, and conversations with a service, without sockets."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from daemons.httpd import Httpd
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.conversation.states import PENDING

#: Modification time of its files: Sunday, 12 October 2025.
WRITTEN = 1_760_256_000
DATE = "Sun, 12 Oct 2025 08:00:00 GMT"

TEXT = b"Beautiful is better than ugly. " * 40
PICTURE = bytes(range(256)) * 4
LONG = bytes(range(251)) * 1000
SECRET = b"the secret of the moat"


#: The default peer.
LOCAL = Peer("127.0.0.1:4242", "127.0.0.1", False)


class ParsedResponse(NamedTuple):
    """A parsed response."""

    status: int
    fields: dict[str, str]
    body: bytes


def make(folder: Path) -> str:
    """Create a site below `folder`, with secrets outside its root and links to them; return the root."""
    root = folder / "www"
    for name in ("sub", "empty", ".git"):
        (root / name).mkdir(parents=True)
    files = {
        "index.html": b"<!DOCTYPE html><title>home</title>",
        "text.txt": TEXT,
        "ready.css": TEXT,
        "ready.css.gz": gzip.compress(TEXT, 9, mtime=0),
        "stale.css": TEXT,
        "stale.css.gz": gzip.compress(b"an older version", mtime=0),
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
    """Return an httpd service for `root`."""
    return Httpd(Httpd.Options(root=root, **options))


def request(
    path: str,
    *fields: str,
    method: str = "GET",
    version: str = "1.1",
    body: bytes | None = None,
    host: str = "localhost",
) -> bytes:
    """Return a request."""
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + (body or b"")


@contextmanager
def talking(httpd: Httpd, peer: Peer = LOCAL) -> Iterator[Conversation]:
    """Open a conversation, and close it as when the client disconnects."""
    conversation = Conversation(httpd, ServiceBinding(httpd), lambda: peer)
    assert conversation.open() == b""
    try:
        yield conversation
    finally:
        conversation.close()


def send(conversation: Conversation, data: bytes) -> bytes:
    """Return all bytes sent in response to `data`."""
    received = [conversation.receive(data)]
    while conversation.state == PENDING:
        received.append(conversation.proceed())
    return b"".join(received)


def parsed(data: bytes) -> ParsedResponse:
    """Parse one response without repeated fields."""
    head, end, body = data.partition(b"\r\n\r\n")
    assert end, data[:1000]
    first, *lines = head.decode("ascii").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Z][A-Za-z -]+", first)
    assert match, first
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines), lines
    return ParsedResponse(int(match[1]), fields, body)


def ask(
    httpd: Httpd,
    path: str,
    *fields: str,
    method: str = "GET",
    version: str = "1.1",
    body: bytes | None = None,
    host: str = "localhost",
    peer: Peer = LOCAL,
) -> ParsedResponse:
    """Send one request, and return its response."""
    with talking(httpd, peer) as conversation:
        data = request(path, *fields, method=method, version=version, body=body, host=host)
        found = parsed(send(conversation, data))
        assert conversation.failure is None
    bodiless = method == "HEAD" or found.status in (204, 304)
    if bodiless:
        assert found.body == b""
    else:
        assert int(found.fields["Content-Length"]) == len(found.body)
    assert found.fields["X-Content-Type-Options"] == "nosniff"
    return found
