"""``daemons ask NAME``: send messages to a daemon and print its replies.

If a service declares the framing of its replies (`Service.answers`), each reply is printed on a line of its own as soon
as it is complete.  Otherwise, with a raw handler, and with standard input, the client works as ``nc -N`` does: it sends
everything, closes its sending side, and prints all it receives until the peer closes the connection.  Output to a
terminal is escaped (`daemons.clients.output`).  Over UDP each message is one datagram, and so is standard input.
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
from daemons.clients.net.datagram import LONGEST, is_broadcast, match_any, send_broadcast, send_request
from daemons.clients.net.dial import NetworkError, Note, dial, ignore_note
from daemons.clients.net.send_and_receive import send_and_receive
from daemons.clients.net.total_deadline import ReplyDeadline
from daemons.framings import Framing, FramingError, Until
from daemons.operating import lifecycle
from daemons.operating.config.sections import Settings
from daemons.operating.loading.targets import target_of
from daemons.serving.conversation.service import Service
from daemons.serving.listening.address import Address
from daemons.settings.complaints import ConfigurationError
from daemons.settings.values import PORT

#: Bytes per recv(2).
RECEIVE = 16 * 1024

#: Bytes per read from standard input.
PIECE = 64 * 1024


def ask(settings: Settings, options: argparse.Namespace) -> int:
    """Run the command ``daemons ask`` and return its exit code."""
    if options.host == "":  # of an unset shell variable; it would mean this machine
        print(
            f"{settings.name}: empty argument HOST; expected an address, or - for the one in the ini", file=sys.stderr
        )
        return lifecycle.USAGE
    if options.host and " " in options.host:
        hint = f"to send it: daemons ask {settings.name} - {options.host!r}"
        print(f"{settings.name}: {options.host!r} is not a host; {hint}", file=sys.stderr)
        return lifecycle.USAGE
    kind = target_of(settings).served_class
    framing = kind.answers if issubclass(kind, Service) else None
    address = _address(settings, options)
    if address.scheme == "udp" and issubclass(kind, Service):
        kind = kind.datagrams or kind
    words = [os.fsencode(word) for word in options.words]
    try:
        messages = _encode_words(kind, words)
    except ValueError as error:
        print(f"{settings.name}: the message cannot be encoded: {error}", file=sys.stderr)
        return lifecycle.USAGE
    cafile = _find_cafile(settings, options) if address.scheme == "tls" else None
    note = partial(print, file=sys.stderr, flush=True) if options.verbose else ignore_note
    if address.scheme == "udp":
        if options.stdin:
            kind, messages = Service, [_datagram()]
        for peer, reply in _datagram_replies(kind, address, messages or [b""], options.timeout, note):
            _print_reply(kind, reply, peer)
    elif options.stdin or framing is None:
        with _standard_input() if options.stdin else nullcontext(messages) as pieces:
            output.write_all(send_all(address, pieces, options.timeout, cafile, note), end_line=not options.stdin)
    else:
        for reply in converse(address, messages, framing, options.timeout, cafile, note):
            _print_reply(kind, reply)
    return lifecycle.ENDED


def converse(
    address: Address,
    messages: Sequence[bytes],
    framing: Framing,
    timeout: float,
    cafile: Path | None = None,
    note: Note = ignore_note,
) -> Iterator[bytes]:
    """Send the messages one at a time on one connection, and yield the reply to each.

    Raises `NetworkError`, also if the peer closes the connection before it has replied."""
    with dial(address, timeout, cafile, note) as peer:
        decoder = framing.decoder()
        replies: list[bytes] = []
        try:
            for message in messages:
                peer.sendall(message)
                deadline, received = ReplyDeadline(timeout), 0
                while not replies:
                    deadline.check(received)
                    data = peer.recv(RECEIVE)
                    received += len(data)
                    if not data:
                        raise EOFError(f"closed before it replied to {message!r}")
                    replies += decoder.decode(data)
                    if decoder.error is not None:
                        raise decoder.error
                yield replies.pop(0)
        except (OSError, EOFError, FramingError) as error:
            raise NetworkError(address, error) from error


def send_all(
    address: Address, pieces: Iterable[bytes], timeout: float, cafile: Path | None = None, note: Note = ignore_note
) -> Iterator[bytes]:
    """Send all `pieces`, close the sending side, and yield the bytes received until the peer closes the connection.

    Receiving starts while sending, since two peers that both send before they receive would deadlock.  Raises
    `NetworkError`, also if the peer has not closed within `timeout` seconds after the sending side was closed, plus one
    second for each `total_deadline.SLOWEST` bytes received."""
    with dial(address, timeout, cafile, note) as peer:
        try:
            for piece in pieces:
                yield from send_and_receive(peer, piece, timeout)
            peer.shutdown(socket.SHUT_WR)
            deadline, received = ReplyDeadline(timeout), 0
            while data := peer.recv(RECEIVE):
                began = monotonic()
                yield data
                deadline.extend(monotonic() - began)
                received += len(data)
                deadline.check(received)
        except OSError as error:
            raise NetworkError(address, error) from error


def _datagram_replies(
    kind: Any, address: Address, messages: Iterable[bytes], timeout: float, note: Note
) -> Iterator[tuple[str, bytes]]:
    """Yield each reply over UDP with the address of its sender; the address is empty unless `address` is a broadcast
    address.  Raises `NetworkError`."""
    matches = kind.matches if issubclass(kind, Service) else match_any
    broadcast = is_broadcast(address)
    for message in messages:
        if broadcast:
            yield from send_broadcast(address, message, timeout, matches, note)
        else:
            yield "", send_request(address, message, timeout, matches, note)


def _encode_words(kind: Any, words: list[bytes]) -> list[bytes]:
    """Return the framed messages for the words of the command line, or for the service's own questions if there are no
    words.  Raises `ValueError` for a message that cannot be framed."""
    if not issubclass(kind, Service):
        return words
    # A word on a command line has no newline at its end; without it the daemon would wait for the rest of the message.
    framing = getattr(kind, "framing", None)  # some services set it only when they have their options
    end = framing.delimiter if isinstance(framing, Until) else b""
    if not end.endswith(b"\n"):
        end = b""
    messages = [kind.framing.encode(message) for message in kind.messages(words or kind.questions)]
    return [message if message.endswith(end) else message + end for message in messages]


def _address(settings: Settings, options: argparse.Namespace) -> Address:
    """Return the address to connect to: the first listener of the ini file, with HOST and -p substituted.  Raises
    `ConfigurationError`."""
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
        raise ConfigurationError([f"{where}: the address of an inherited socket is unknown; write HOST -p PORT"])
    return own[0]


def _find_cafile(settings: Settings, options: argparse.Namespace) -> Path | None:
    """Return the file of the trusted CA: that of --cafile, else that made by `daemons cert`; None for the system's."""
    if options.cafile is not None:
        return Path(options.cafile)
    made = settings.run / "tls" / "ca.pem"
    return made if made.is_file() else None


@contextmanager
def _standard_input() -> Iterator[Iterator[bytes]]:
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        yield iter(partial(stdin.read, PIECE), b"")


def _datagram() -> bytes:
    """Return all of standard input, but no more than it takes for sendto(2) to report that it is too long."""
    with _standard_input() as pieces:
        data = b""
        while len(data) <= LONGEST and (piece := next(pieces, b"")):
            data += piece
    return data


def _print_reply(kind: Any, reply: bytes, peer: str = "") -> None:
    """Print a reply on a line of its own, prefixed with the peer's address if one is given."""
    if issubclass(kind, Service):
        reply = kind.shown(reply)
    output.write_all([f"{peer}: ".encode() + reply if peer else reply], end_line=True)
