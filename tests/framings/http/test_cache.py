"""What a head and an input came to is remembered, and that changes no answer, whatever comes next."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from daemons.framings.http import HTTP, Request
from daemons.serving.conversation.conversation import OVER, PENDING, Conversation
from daemons.serving.conversation.service import Service
from daemons.serving.conversation.service_binding import ServiceBinding

PIECES = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
    b"GET / HTTP/1.1\r\n",
    b"Host: a\r\n\r\n",
    b"PUT / HTTP/1.0\r\nContent-Length: 2\r\n\r\n",
    b"PUT / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab",
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ncd\r\n0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    b"ef",
    b"\r\n",
    b"\r",
    b"GET / HTTP/1.1\r\n\r\n",
]


class Tells(Service):
    """What it has heard."""

    def __init__(self) -> None:
        self.framing = HTTP()  # which remembers heads
        super().__init__()

    def respond(self, message: bytes) -> bytes:
        assert isinstance(message, Request)
        return f"{message.method} {message.body!r} {message.expects}\n".encode()


def said(service: Service, binding: ServiceBinding | None, pieces: Sequence[bytes]) -> list[bytes]:
    """What is answered to each piece; without `binding`, nothing is known from before."""
    conversation = Conversation(service, binding)
    answers = []
    for piece in [*pieces, b""]:
        if binding is None:
            conversation._binding = ServiceBinding(service)
        answers.append(conversation.receive(piece))
        while conversation.state == PENDING:
            answers[-1] += conversation.proceed()
        assert conversation.failure is None
    assert conversation.state == OVER
    conversation.close()
    return [*answers, str(conversation.ending).encode()]


SERVICE = Tells()
BINDING = ServiceBinding(SERVICE)


@settings(max_examples=100)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=8))
def test_what_is_remembered_changes_no_answer(pieces: list[bytes]) -> None:
    assert said(SERVICE, BINDING, pieces) == said(Tells(), None, pieces)
