"""WSGI applications that return a large body as a list."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.states import PENDING
from tests.web.wsgi_talking import get, said, visit

MIB = 1024**2

#: Parts of one body: many small ones, one large one, and both with empty ones in between.
BODIES = {
    "many blocks": [bytes(range(256)) * 256] * 512,
    "many short lines": [b"a short line\n"] * 300_000,
    "one large part": [bytes(32 * MIB)],
    "a large part between small ones": [b"a", b"", bytes(65536), b"b" * (3 * MIB + 1), b"", b"c"],
    "just above the limit for joining": [b"x" * 1024] * 257,
}


def returning(parts: list[bytes], *headers: tuple[str, str]) -> Any:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", list(headers))
        return parts

    return application


@pytest.mark.parametrize("parts", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_large_list_is_sent_with_its_length(parts: list[bytes], version: str) -> None:
    with visit(returning(parts)) as conversation:
        head, _, body = said(conversation, get("", version=version)).partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % sum(map(len, parts)) in head.split(b"\r\n")
        assert body == b"".join(parts)


def test_large_list_is_not_sent_to_head_and_the_connection_is_kept() -> None:
    parts = BODIES["many blocks"]
    with visit(returning(parts, ("Content-Length", str(32 * MIB)))) as conversation:
        for _ in range(2):
            head, _, body = said(conversation, get("", method="HEAD")).partition(b"\r\n\r\n")
            assert (b"Content-Length: %d" % (32 * MIB) in head.split(b"\r\n"), body) == (True, b"")
        assert len(said(conversation, get(""))) > 32 * MIB
        assert len(said(conversation, get(""))) > 32 * MIB


def test_large_list_with_a_part_other_than_bytes_fails_before_anything_is_sent() -> None:
    with visit(returning([bytes(MIB), "text"])) as conversation:  # type: ignore[list-item]  # which is the fault
        assert said(conversation, get("")).startswith(b"HTTP/1.1 500 ")
        assert isinstance(conversation.failure, TypeError)


@pytest.mark.parametrize("name", ["many blocks", "one large part"])
def test_large_list_is_not_copied_as_a_whole(name: str) -> None:
    parts = BODIES[name]
    with visit(returning(parts)) as conversation:
        tracemalloc.start()
        try:
            sent = send(conversation)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sent > 32 * MIB
    assert peak < 4 * MIB


def send(conversation: Conversation) -> int:
    """Discard the bytes of a response, and return their number."""
    sent = len(conversation.receive(get("")))
    while conversation.state == PENDING:
        sent += len(conversation.proceed())
    return sent
