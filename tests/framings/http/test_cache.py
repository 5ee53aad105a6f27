"""The caches of heads and of framed inputs do not change a response, for any sequence of inputs."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from daemons.framings.http import HTTP, Request
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service import Service
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.conversation.states import OVER, PENDING

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


class Describe(Service):
    """Reply with the method, the body and the expectation of each request."""

    def __init__(self) -> None:
        self.framing = HTTP()  # has a cache of heads
        super().__init__()

    def respond(self, message: bytes) -> bytes:
        assert isinstance(message, Request)
        return f"{message.method} {message.body!r} {message.expects}\n".encode()


def replies(service: Service, binding: ServiceBinding | None, pieces: Sequence[bytes]) -> list[bytes]:
    """Return the reply to each piece, and the ending.  Without `binding`, each piece has an empty reply cache."""
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


SERVICE = Describe()
BINDING = ServiceBinding(SERVICE)


@settings(max_examples=100)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=8))
def test_caches_do_not_change_a_response(pieces: list[bytes]) -> None:
    assert replies(SERVICE, BINDING, pieces) == replies(Describe(), None, pieces)
