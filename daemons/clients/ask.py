"""``daemons ask NAME``: say something to a daemon, and print what it replies.

A service says how its replies end (`Service.answers`); then each is printed on a line of its own, as
soon as it has come.  Where it does not say, and with a raw handler, everything is said, our half of the
connection is closed, and what comes until the other half closes is printed: as ``nc -N`` does, and so it is with
what comes on standard input.  At a terminal it is printed as text without what could drive that
(`daemons.clients.output`).  Over UDP each question is a datagram, or all of standard input is one.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from daemons.clients import output
from daemons.clients.net.datagram import LONGEST, anything, inquire, is_broadcast, proclaim
from daemons.clients.net.dial import NetworkError, Note, dial, silent
from daemons.clients.net.send_and_receive import send_and_receive
from daemons.clients.net.total_deadline import Due
from daemons.framings import Framing, FramingError, Until
from daemons.operating import lifecycle
from daemons.operating.config.sections import Settings
from daemons.operating.loading.targets import target_of
from daemons.serving.conversation.service import Service
from daemons.serving.listening.address import Address
from daemons.settings.complaints import ConfigurationError
from daemons.settings.values import PORT

#: Octets per recv(2).
RECEIVE = 16 * 1024

#: Octets of standard input that are sent at a time.
PIECE = 64 * 1024


def ask(settings: Settings, options: argparse.Namespace) -> int:
    """Hold the conversation that the command line asks for; returns the exit code."""
    if options.host and " " in options.host:
        hint = f"to say it: daemons ask {settings.name} - {options.host!r}"
        print(f"{settings.name}: {options.host!r} is no host; {hint}", file=sys.stderr)
        return lifecycle.USAGE
    kind = target_of(settings).served_class
    framing = kind.answers if issubclass(kind, Service) else None
    address = _address(settings, options)
    if address.scheme == "udp" and issubclass(kind, Service):
        kind = kind.datagrams or kind
    words = [os.fsencode(word) for word in options.words]
    try:
        said = _said(kind, words)
    except ValueError as error:
        print(f"{settings.name}: this cannot be said: {error}", file=sys.stderr)
        return lifecycle.USAGE
    cafile = _trusted(settings, options) if address.scheme == "tls" else None
    note = partial(print, file=sys.stderr, flush=True) if options.verbose else silent
    if address.scheme == "udp":
        if options.stdin:
            kind, said = Service, [_datagram()]
        for who, answer in _inquire(kind, address, said or [b""], options.timeout, note):
            _print(kind, answer, who)
    elif options.stdin or framing is None:
        with _standard_input() if options.stdin else nullcontext(said) as octets:
            output.write_all(tell(address, octets, options.timeout, cafile, note), end_line=not options.stdin)
    else:
        for answer in converse(address, said, framing, options.timeout, cafile, note):
            _print(kind, answer)
    return lifecycle.ENDED


def converse(
    address: Address,
    questions: Sequence[bytes],
    framing: Framing,
    timeout: float,
    cafile: Path | None = None,
    note: Note = silent,
) -> Iterator[bytes]:
    """Ask one question after the other on one connection; yields each answer.  Raises `NetworkError`,
    also where the peer closes before it has answered."""
    with dial(address, timeout, cafile, note) as peer:
        decoder = framing.decoder()
        answers: list[bytes] = []
        try:
            for question in questions:
                peer.sendall(question)
                due, received = Due(timeout), 0
                while not answers:
                    due.check(received)
                    data = peer.recv(RECEIVE)
                    received += len(data)
                    if not data:
                        raise EOFError(f"closed before it had answered {question!r}")
                    answers += decoder.decode(data)
                    if decoder.error is not None:
                        raise decoder.error
                yield answers.pop(0)
        except (OSError, EOFError, FramingError) as error:
            raise NetworkError(address, error) from error


def tell(
    address: Address, octets: Iterable[bytes], timeout: float, cafile: Path | None = None, note: Note = silent
) -> Iterator[bytes]:
    """Send all `octets`, close our half, and yield what comes until the peer closes its own.  It is read while we
    send: of two that both send before they read, each would wait for the other for ever.  Raises `NetworkError`, also
    where the peer does not close its half within `timeout` seconds of ours, and one for each `due.SLOWEST` bytes."""
    with dial(address, timeout, cafile, note) as peer:
        try:
            for piece in octets:
                yield from send_and_receive(peer, piece, timeout)
            peer.shutdown(socket.SHUT_WR)
            due, received = Due(timeout), 0
            while data := peer.recv(RECEIVE):
                began = monotonic()
                yield data
                due.extend(monotonic() - began)
                received += len(data)
                due.check(received)
        except OSError as error:
            raise NetworkError(address, error) from error


def _inquire(
    kind: Any, address: Address, questions: Iterable[bytes], timeout: float, note: Note
) -> Iterator[tuple[str, bytes]]:
    """Each answer over UDP; and who gave it, where everybody was asked.  Raises `NetworkError`."""
    matches = kind.matches if issubclass(kind, Service) else anything
    broadcast = is_broadcast(address)
    for question in questions:
        if broadcast:
            yield from proclaim(address, question, timeout, matches, note)
        else:
            yield "", inquire(address, question, timeout, matches, note)


def _said(kind: Any, words: list[bytes]) -> list[bytes]:
    """What the words of the command line stand for, as it is sent; without any, what the service is known for.
    Raises `ValueError` for what cannot be framed."""
    if not issubclass(kind, Service):
        return words
    # Who types a word has no newline in it; without the delimiter the daemon would wait for the rest.
    framing = getattr(kind, "framing", None)  # some have one when they have their options
    end = framing.delimiter if isinstance(framing, Until) else b""
    if not end.endswith(b"\n"):
        end = b""
    said = [kind.framing.encode(message) for message in kind.messages(words or kind.questions)]
    return [message if message.endswith(end) else message + end for message in said]


def _address(settings: Settings, options: argparse.Namespace) -> Address:
    """Where to dial: the first listener of the ini, with HOST and -p in place of its own."""
    host = None if options.host in (None, "-") else options.host
    try:
        port = None if options.port is None else PORT.parse(options.port)
    except ValueError as error:
        raise ConfigurationError([f"-p {options.port}: {error}"]) from error
    if host is not None or port is not None:
        inet = [address for address in settings.addresses if address.scheme != "unix" and not address.inherited]
        return (inet or [Address("tcp", host="127.0.0.1")])[0].at(host, port)
    own = [address for address in settings.addresses if not address.inherited]
    if not own:
        where = f"conf/{settings.name}.ini [daemon] listen = {settings.addresses[0]}"
        raise ConfigurationError([f"{where}: somebody else decides where that is; name it: HOST -p PORT"])
    return own[0]


def _trusted(settings: Settings, options: argparse.Namespace) -> Path | None:
    """The CA to trust: the one that is named, else the one that `daemons cert` made, else the system's."""
    if options.cafile is not None:
        return Path(options.cafile)
    made = settings.run / "tls" / "ca.pem"
    return made if made.is_file() else None


@contextmanager
def _standard_input() -> Iterator[Iterator[bytes]]:
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        yield iter(partial(stdin.read, PIECE), b"")


def _datagram() -> bytes:
    """All of standard input; of what is too long for a datagram, enough for the system to say so."""
    with _standard_input() as pieces:
        said = b""
        while len(said) <= LONGEST and (piece := next(pieces, b"")):
            said += piece
    return said


def _print(kind: Any, reply: bytes, who: str = "") -> None:
    """Print a reply on a line of its own; before it, if it is one of several peers, the peer's address."""
    if issubclass(kind, Service):
        reply = kind.shown(reply)
    output.write_all([f"{who}: ".encode() + reply if who else reply], end_line=True)
