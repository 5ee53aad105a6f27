"""An in-memory TLS client, and ways to split its bytes."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service import Service
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING, SHAKING
from daemons.serving.conversation.tls import TLS
from daemons.serving.tls.context import client_context, server_context
from tests.certificates import folder

Cut = Callable[[bytes], Iterator[bytes]]

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def whole(data: bytes) -> Iterator[bytes]:
    if data:
        yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    for position in range(len(data)):
        yield data[position : position + 1]


def at_random(data: bytes) -> Iterator[bytes]:
    dice = random.Random(len(data))
    while data:
        size = dice.choice((1, 4, 5, 6, 50, 500))
        yield data[:size]
        data = data[size:]


CUTS: dict[str, Cut] = {"whole": whole, "byte by byte": bytewise, "at random": at_random}


@cache
def ours(client_ca: bool = False) -> ssl.SSLContext:
    """Return the context of a server."""
    context = server_context()
    context.load_cert_chain(folder() / "server.pem", folder() / "server.key")
    if client_ca:
        context.load_verify_locations(folder() / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def theirs(version: str = "1.3", certificate: str = "") -> ssl.SSLContext:
    """Return the context of a client for one TLS version."""
    context = client_context(folder() / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if certificate:
        context.load_cert_chain(folder() / certificate)
    return context


class Line:
    """An in-memory connection between a client and a conversation.

    `go` transfers the bytes written by the client; `heard` has the data it has received."""

    def __init__(
        self, service: Service, version: str = "1.3", cut: Cut = whole, context: ssl.SSLContext | None = None
    ) -> None:
        self.reasons: list[str] = []
        self.begin(TLS(context or ours()).secure(Conversation(service), self.reasons.append), version, cut)
        self.deliver(self.ours.open())

    def begin(self, conversation: Conversation, version: str, cut: Cut) -> None:
        """Set the two ends; nothing is sent."""
        self.ours = conversation
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = theirs(version).wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.cut = cut
        self.heard = b""
        #: Whether the conversation has sent close_notify.
        self.left = False
        #: Size of the largest part sent by the conversation.
        self.largest = 0

    def use(self, context: ssl.SSLContext) -> Line:
        """Connect another client."""
        self.client = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        return self

    def shake(self) -> Line:
        """Run the whole handshake."""
        for _ in range(4):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.go()
            else:
                break
        self.go().deliver(b"")
        return self

    def say(self, data: bytes) -> Line:
        """Write `data` in records of the usual size, and transfer it."""
        for start in range(0, len(data), 16384):
            self.client.write(data[start : start + 16384])
        return self.go()

    def goodbye(self) -> Line:
        try:
            self.client.unwrap()
        except ssl.SSLError:
            pass
        return self.go()

    def take(self) -> bytes:
        """Return the bytes that the client would send."""
        return self._outgoing.read()

    def go(self) -> Line:
        return self.send(self.take())

    def send(self, data: bytes) -> Line:
        """Pass these bytes to the conversation unchanged."""
        for piece in self.cut(data):
            self.deliver(self.ours.receive(piece))
            self._proceed()
        return self

    def _proceed(self) -> None:
        idle = 0
        while self.ours.state == PENDING:
            said = self.ours.proceed()
            self.deliver(said)
            idle = 0 if said else idle + 1
            assert idle < 10, "it is pending, and says nothing"

    def end(self) -> Line:
        """End the input without close_notify."""
        self.deliver(self.ours.receive(b""))
        self._proceed()
        return self

    def deliver(self, data: bytes) -> None:
        """Pass bytes to the client."""
        self.largest = max(self.largest, len(data))
        if data:
            self._incoming.write(data)
        while not self.left and self.client.version():
            try:
                received = self.client.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                received = b""
            self.heard += received
            self.left = not received

    @property
    def over(self) -> bool:
        return self.ours.state == OVER


def take_steps(conversation: Conversation, steps: Iterable[bytes | None]) -> None:
    """Pass bytes to a conversation, or for None let it proceed, and check the contract after each step; close it."""
    for step in steps:
        over = conversation.state == OVER
        reply = conversation.proceed() if step is None else conversation.receive(step)
        assert isinstance(reply, bytes)
        assert not (over and reply)
        assert conversation.state in (IDLE, PARTIAL, PENDING, OVER, SHAKING)
        assert (conversation.ending is not None) == (conversation.state == OVER)
        assert conversation.failure is None
    conversation.close()
