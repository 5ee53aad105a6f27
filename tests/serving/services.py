"""Services and handlers that misbehave in one way each: for the tests at the seam, and, as
``service = tests.serving.services:NAME``, for daemons that run as processes."""

from __future__ import annotations

import logging
import os
import resource
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from daemons import Ending, ReplyCutShort, Service, Talk, Until
from daemons.framings import Decoder, Framing
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service import Reply

LINE = Until(b"\n", limit=64)

#: More than the socket buffers of both ends can hold: tcp(7), tcp_wmem and tcp_rmem.
LARGE = 32 * 1024 * 1024

#: A few batches of a reply.
SOME = 250_000


class Echo(Service):
    """Says each line back."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return line


class Comments(Decoder):
    """Holds what came after the last line end."""

    def __init__(self) -> None:
        super().__init__()
        self._held = b""

    def decode(self, data: bytes) -> Sequence[bytes]:
        *lines, self._held = (self._held + data).split(b"\n")
        return [line + b"\n" for line in lines if not line.startswith(b"#")]

    @property
    def pending(self) -> bool:
        return bool(self._held)


class Commented(Framing):
    """Lines, of which those that open with ``#`` are no messages."""

    def decoder(self) -> Comments:
        return Comments()


class Uncommented(Service):
    """Says each line back that is no comment."""

    framing = Commented()

    def respond(self, line: bytes) -> bytes:
        return line


class Wide(Service):
    """Says back what would be too much for one datagram, if it were longer by one octet; or twice as much."""

    framing = Until(b"\n", limit=65_507)

    def respond(self, line: bytes) -> bytes:
        return line[len(b"twice") :] * 2 if line.startswith(b"twice") else line


class Loud(Service):
    """Says more than a peer that does not read can take."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return b"x" * LARGE


class Pieces(Service):
    """Says back a line in one piece, and answers three words in more: ``all`` is large, ``some`` less, and ``fail`` has
    a bug in the middle.  The log tells when they have all been drawn, and when they were put away."""

    framing = LINE

    def respond(self, line: bytes) -> Reply:
        sizes = {b"all\n": LARGE, b"some\n": SOME, b"fail\n": 0}
        return self.pieces(sizes[line]) if line in sizes else line

    def pieces(self, size: int) -> Iterator[bytes]:
        log = logging.getLogger("daemons.pieces")
        try:
            if not size:
                yield b"half"
                raise RuntimeError("a secret of the service")
            while size:
                yield (piece := b"x" * min(size, 50_000))
                size -= len(piece)
            log.info("all drawn")
        finally:
            log.info("put away")


class CutShort(Service):
    """Answers each line with half a reply."""

    framing = LINE

    def respond(self, line: bytes) -> Iterator[bytes]:
        yield b"half"
        raise ReplyCutShort("the source failed")


class Patient(Service):
    """Reads messages that are as long as anybody likes."""

    framing = Until(b"\n", limit=1024**3, skip=b"\r")

    def respond(self, line: bytes) -> bytes:
        return b"%d\n" % len(line)


class Lost(Service):
    """Never answers; its log tells that it was asked."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        logging.getLogger(__name__).info("asked")
        threading.Event().wait()
        raise AssertionError


class Failing(Service):
    """Has a bug, which one word brings to light."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        if line == b"fail\n":
            raise RuntimeError("a secret\nof the service")
        return line

    def apology(self, ending: Ending) -> bytes:
        return f"sorry: {ending.value}\n".encode()


class Polite(Service):
    """A talk: greets, counts what this visitor has said, has last words, and puts things away."""

    framing = LINE

    def talk(self) -> Talk:
        said = 0
        try:
            line = yield b"hello\n"
            while line != b"bye\n":
                said += 1
                line = yield b"%d\n" % said
            return b"goodbye\n"
        finally:
            logging.getLogger("daemons.polite").info("put away after %d", said)


class Process(Service):
    """Says which process it is."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return b"%d\n" % os.getpid()


class Starving(Service):
    """Asked to starve, its process can open nothing more; until it is fed."""

    framing = LINE
    most = resource.getrlimit(resource.RLIMIT_NOFILE)

    def respond(self, line: bytes) -> bytes:
        # Not 0: poll(2) heeds it too, and the log polls one.
        soft = 1 if line == b"starve\n" else self.most[0]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, self.most[1]))
        return line


class Broken(Service):
    """Cannot be made, except where the settings are tried before the daemon serves: the first time."""

    framing = LINE

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        try:
            os.mkdir("tried")
        except FileExistsError:
            raise TypeError("it is broken") from None

    def respond(self, line: bytes) -> bytes:
        return line


class Raw(socketserver.StreamRequestHandler):
    """A stock handler: upper case, line by line.  ``fail`` is a bug, ``exit`` is sys.exit()."""

    def handle(self) -> None:
        for line in self.rfile:
            if line == b"fail\n":
                raise RuntimeError("a secret of the handler")
            if line == b"exit\n":
                raise SystemExit(3)
            self.wfile.write(line.upper())


class Endless(socketserver.BaseRequestHandler):
    """A stock handler that never comes to an end of its own."""

    def handle(self) -> None:
        while data := self.request.recv(1024):
            self.request.sendall(data)


class Deaf(socketserver.BaseRequestHandler):
    """A stock handler that does not look at its socket; the log tells that it has begun."""

    def handle(self) -> None:
        logging.getLogger(__name__).info("deaf")
        threading.Event().wait()


class Executing(socketserver.BaseRequestHandler):
    """Becomes another program, which says ``held`` and stays for as long as its peer does."""

    def handle(self) -> None:
        self.request.setblocking(True)
        for descriptor in (0, 1):
            os.dup2(self.request.fileno(), descriptor)
        os.execvp("sh", ["sh", "-c", "echo held; exec cat"])


class Closing(socketserver.BaseRequestHandler):
    """Closes all descriptors but its socket, says ``held``, and stays for as long as its peer does."""

    def handle(self) -> None:
        kept = self.request.fileno()
        os.closerange(3, kept)
        os.closerange(kept + 1, 1000)
        self.request.sendall(b"held\n")
        while self.request.recv(1024):
            pass


class RawDatagram(socketserver.DatagramRequestHandler):
    """A stock handler: upper case.  ``fail`` is a bug that comes to light when half of the answer is made."""

    def handle(self) -> None:
        self.wfile.write(self.packet.upper())
        if self.packet == b"fail":
            raise RuntimeError("a secret of the handler")
        if self.packet == b"exit":
            raise SystemExit(3)


class Forward(socketserver.BaseRequestHandler):
    """A stock handler that says what it hears to somebody else, whose port it is told, and tells of it."""

    def handle(self) -> None:
        data, sock = self.request
        octets = sock.sendto(data, ("127.0.0.1", int(data)))
        sock.sendto(b"%d octets, " % octets, self.client_address)
        sock.sendto(b"from port %d" % sock.getsockname()[1], 0, self.client_address)


# --- at the seam ------------------------------------------------------------------------------------


def conversation(
    respond: Callable[[bytes], Any] | None = None,
    talk: Callable[[], Any] | None = None,
    apology: Callable[[Ending], Any] = lambda ending: b"sorry\n",
    framing: Framing = LINE,
) -> Conversation:
    """One with a service made of these functions."""
    methods: dict[str, Any] = {"framing": framing, "apology": lambda self, ending: apology(ending)}
    if respond is not None:
        methods["respond"] = lambda self, message: respond(message)
    if talk is not None:
        methods["talk"] = lambda self: talk()
    return Conversation(type("Made", (Service,), methods)())


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*arguments: object) -> Any:
        raise error

    return function
