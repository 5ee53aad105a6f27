"""TLS: complete handshakes with different clients, and expensive first flights."""

from __future__ import annotations

import itertools
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from daemons.framings import Lines
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.conversation.states import OVER
from daemons.serving.conversation.tls import TLS
from tests.promises.grammars.framings import Lengths
from tests.promises.grammars.grammar import Feed, Grammar, converse, filled, word
from tests.serving.tls_client import VERSIONS, ours, theirs

SIZE = 16 * 1024

#: Prefix of an input that describes a client instead of its bytes: TLS version, acceptance of tickets, certificate, and
#: server name.
CLIENT = b"client "


def serve(folder: Path) -> Feed:
    service = Lengths(Lines(limit=1000))
    binding = ServiceBinding(service)
    tls = TLS(ours(client_ca=True))

    def feed(data: bytes) -> int:
        conversation = tls.secure(Conversation(service, binding))
        if not data.startswith(CLIENT):
            return converse(conversation, data)
        _, version, tickets, certificate, name, protocol = data.decode().split(" ")
        context = client(version, tickets, certificate)
        context.set_alpn_protocols([protocol])
        return visit(conversation, context, name)

    return feed


@cache
def client(version: str, tickets: str, certificate: str) -> ssl.SSLContext:
    context = theirs(version, certificate)
    context.check_hostname = False
    if tickets == "no":
        context.options |= ssl.OP_NO_TICKET
    return context


def visit(conversation: Conversation, context: ssl.SSLContext, name: str) -> int:
    """Perform a handshake, ask one question, and close the connection properly.  Returns the bytes sent."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = context.wrap_bio(incoming, outgoing, server_hostname=name)
    sent = 0

    def go() -> None:
        nonlocal sent
        if conversation.state != OVER and (data := outgoing.read()):
            reply = conversation.receive(data)
            sent += len(reply)
            incoming.write(reply)

    for step in (end.do_handshake,) * 4 + (lambda: end.write(b"a message\n"), end.read, end.unwrap):
        with suppress(ssl.SSLError):
            step()
        go()
    conversation.close()
    return sent


def unlike(number: int) -> bytes:
    name = f"{word(number, 60)}.{word(number, 60)}.{word(number, 60)}.example"
    version = list(VERSIONS)[number % 2]
    tickets = "no" if number % 4 < 2 else "yes"
    certificate = ("client.pem", "client.pem", "selfsigned.pem")[number % 3]
    if number % 7 == 6:
        return hello(SIZE - 100 - number % 5000, name, number)
    return CLIENT + f"{version} {tickets} {certificate} {name} {word(number, 200)}".encode()


_numbers = itertools.count()


def hello(size: int, name: str = "localhost", number: int = 0) -> bytes:
    """Return the first flight of a client that supports many protocols, of about the given size."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([word(number + n, 250) for n in range((size - 700) // 251)])
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def honest(size: int) -> bytes:
    return hello(size, number=next(_numbers))


def record(content: bytes, kind: int = 22) -> bytes:
    return struct.pack("!BHH", kind, 0x0303, len(content)) + content


def handshake(body: bytes) -> bytes:
    return record(b"\x01" + struct.pack("!I", len(body))[1:] + body)


def adversarial(size: int) -> Mapping[str, bytes]:
    first = hello(2000)[5:]
    start = b"\x03\x03" + b"r" * 32 + b"\0"
    extensions = filled(b"", b"\xfa\xfa\0\0", b"", size - 200)
    unlike_extensions = b"".join(struct.pack("!HH", 1000 + n, 0) for n in range((size - 200) // 4))
    groups = struct.pack("!HHH", 10, size - 300, size - 302) + b"\0\x1d" * ((size - 302) // 2)
    suites = b"\x13\x01" * ((size - 200) // 2)

    def with_extensions(more: bytes) -> bytes:
        return handshake(start + b"\0\x02\x13\x01\1\0" + struct.pack("!H", len(more)) + more)

    return {
        "noise": bytes(range(256)) * (size // 256),
        "records of one byte": b"".join(record(first[n : n + 1]) for n in range(min(len(first), size // 6))),
        "empty records": filled(b"", record(b""), b"", size),
        "warnings": filled(b"", record(b"\1\0", 21), b"", size),
        "changes of the cipher": filled(b"", record(b"\1", 20), b"", size),
        "announced hello": record(b"\x01\xff\xff\xff" + b"a" * (size - 200)),
        "suites": handshake(start + struct.pack("!H", len(suites)) + suites + b"\1\0"),
        "extensions of one type": with_extensions(extensions),
        "extensions of unlike types": with_extensions(unlike_extensions),
        "groups": with_extensions(groups),
        "hellos": filled(b"", hello(2000), b"", size),
    }


GRAMMARS = (Grammar("TLS", serve, unlike, honest, adversarial, SIZE, count=2000),)
