"""`SimpleHTTPRequestHandler` in memory, at the seam: files are sent, and put away however it ends."""

from __future__ import annotations

import http.server
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemons import Ending
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.states import PENDING
from tests.web.example_handlers import Hello
from tests.web.talking import get, responses, said, visit

SIZE = 1_000_000


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "short").write_bytes(b"short")
    (tmp_path / "long").write_bytes(os.urandom(SIZE))
    return partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))


def test_long_file_is_read_as_it_is_sent(files: Callable[..., Any], tmp_path: Path) -> None:
    with visit(files) as talk:
        first = talk.receive(get("/short") + get("/long") + get("/") + get("/nowhere") + get("/short"))
        assert talk.state == PENDING
        assert len(first) < 3 * BATCH
        received = responses(first + said(talk, b""))
    assert [each.status for each in received] == [200, 200, 200, 404]
    assert received[0].body == b"short"
    assert received[1].body == (tmp_path / "long").read_bytes()
    assert b'<a href="long">' in received[2].body


@pytest.mark.parametrize("path", ["/fifo", "/fifo?x", "/zero"])
def test_special_file_is_not_opened(files: Callable[..., Any], tmp_path: Path, path: str) -> None:
    """Opening a FIFO would block until it has a writer, and delay other clients of the thread."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    # The FIFO has a writer, so that a regression fails at once, and not by timeout.
    writer = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        with visit(files) as talk:
            assert [each.status for each in responses(said(talk, get(path)))] == [404]
    finally:
        os.close(writer)


def test_head_and_304_have_no_body(files: Callable[..., Any]) -> None:
    with visit(files) as talk:
        (head,) = responses(said(talk, get("/long", method="HEAD")), ["HEAD"])
        assert head.fields["content-length"] == str(SIZE)
        since = f"If-Modified-Since: {head.fields['last-modified']}"
        assert [each.status for each in responses(said(talk, get("/long", since) + get("/short")))] == [304, 200]


def test_file_is_closed_when_the_client_disconnects(files: Callable[..., Any]) -> None:
    before = os.listdir("/proc/self/fd")
    for handler, path in ((files, "/long"), (Hello, "/large")):
        with visit(handler) as talk:
            talk.receive(get(path))
            assert talk.state == PENDING
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_truncated_file_ends_the_response(files: Callable[..., Any], tmp_path: Path) -> None:
    with visit(files) as talk:
        first = talk.receive(get("/long"))
        os.truncate(tmp_path / "long", SIZE // 2)
        heard = first + said(talk, get("/short"))
        assert len(heard) < SIZE // 2 + 1000
        assert (talk.ending, type(talk.failure)) == (Ending.FAILED, EOFError)
