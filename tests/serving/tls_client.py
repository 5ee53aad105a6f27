"""The client's end of TLS, in memory, and how its bytes may be cut on their way."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Iterator
from functools import cache

from daemons.serving.conversation.conversation import OVER, PENDING, Conversation
from daemons.serving.conversation.service import Service
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
    """The context of a server."""
    context = server_context()
    context.load_cert_chain(folder() / "server.pem", folder() / "server.key")
    if client_ca:
        context.load_verify_locations(folder() / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def theirs(version: str = "1.3", certificate: str = "") -> ssl.SSLContext:
    """The context of a client that speaks just that version."""
    context = client_context(folder() / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if certificate:
        context.load_cert_chain(folder() / certificate)
    return context


class Line:
    """A client, a conversation of ours, and the line between them.

    What the client writes goes when `go` is called; `heard` is what it was told."""

    def __init__(
        self, service: Service, version: str = "1.3", cut: Cut = whole, context: ssl.SSLContext | None = None
    ) -> None:
        self.reasons: list[str] = []
        self.ours: Conversation = TLS(context or ours()).secure(Conversation(service), self.reasons.append)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = theirs(version).wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.cut = cut
        self.heard = b""
        #: Whether we have said goodbye.
        self.left = False
        #: The largest piece that we wanted to send.
        self.largest = 0
        self.deliver(self.ours.open())

    def use(self, context: ssl.SSLContext) -> Line:
        """Another client."""
        self.client = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        return self

    def shake(self) -> Line:
        """The whole handshake."""
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
        """Say it in records of the usual size; and let it go."""
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
        """What the client would send."""
        return self._outgoing.read()

    def go(self) -> Line:
        return self.send(self.take())

    def send(self, data: bytes) -> Line:
        """These very bytes, whatever they are."""
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
        """The end of the input, without a goodbye."""
        self.deliver(self.ours.receive(b""))
        self._proceed()
        return self

    def deliver(self, data: bytes) -> None:
        """To the client."""
        self.largest = max(self.largest, len(data))
        if data:
            self._incoming.write(data)
        while not self.left and self.client.version():
            try:
                told = self.client.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                told = b""
            self.heard += told
            self.left = not told

    @property
    def over(self) -> bool:
        return self.ours.state == OVER
