"""Services and handlers with one special behavior each, for tests without sockets and, as
``service = tests.serving.services:NAME``, for daemons in separate processes."""

from __future__ import annotations

import logging
import os
import resource
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from daemons import Ending, Peer, ReplyCutShort, Service, Talk, Until
from daemons.framings import Decoder, Framing
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service import Reply

LINE = Until(b"\n", limit=64)

#: More bytes than the socket buffers of both ends can hold: tcp(7), tcp_wmem and tcp_rmem.
LARGE = 32 * 1024 * 1024

#: A few batches of a reply.
SOME = 250_000


class Echo(Service):
    """Echo each line."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return line


class Comments(Decoder):
    """Decoder that buffers the bytes after the last line end."""

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
    """Lines, except that those starting with ``#`` are ignored."""

    def decoder(self) -> Comments:
        return Comments()


class Uncommented(Service):
    """Echo each line that is no comment."""

    framing = Commented()

    def respond(self, line: bytes) -> bytes:
        return line


class Wide(Service):
    """Reply with as many bytes as fit into one datagram, or with twice as many."""

    framing = Until(b"\n", limit=65_507)

    def respond(self, line: bytes) -> bytes:
        return line[len(b"twice") :] * 2 if line.startswith(b"twice") else line


class Loud(Service):
    """Reply with more bytes than the socket buffers hold."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return b"x" * LARGE


class Pieces(Service):
    """Echo a line, but reply to three words with a stream: ``all`` is large, ``some`` smaller, and ``fail`` raises in
    the middle.  It logs when a stream is exhausted and when it is closed."""

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
    """Reply to each line with a truncated stream."""

    framing = LINE

    def respond(self, line: bytes) -> Iterator[bytes]:
        yield b"half"
        raise ReplyCutShort("the source failed")


class Patient(Service):
    """Accept messages of any length."""

    framing = Until(b"\n", limit=1024**3, skip=b"\r")

    def respond(self, line: bytes) -> bytes:
        return b"%d\n" % len(line)


class Lost(Service):
    """Never return from `respond`; log each call."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        logging.getLogger(__name__).info("asked")
        threading.Event().wait()
        raise AssertionError


class AwaitingFile(Service):
    """Echo a line once a file of that name exists in the working directory."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        while line != b"\n" and not os.path.exists(line.strip()):
            threading.Event().wait(0.01)
        return line


class Failing(Service):
    """Raise an exception for one word."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        if line == b"fail\n":
            raise RuntimeError("a secret\nof the service")
        return line

    def apology(self, ending: Ending) -> bytes:
        return f"sorry: {ending.value}\n".encode()


class Polite(Service):
    """A talk with a greeting, a counter of messages, a final message, and cleanup."""

    framing = LINE

    def talk(self, peer: Peer) -> Talk:
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
    """Reply with the process ID."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return b"%d\n" % os.getpid()


class Starving(Service):
    """Set the limit of descriptors to its minimum on ``starve``, and restore it on ``feed``."""

    framing = LINE
    most = resource.getrlimit(resource.RLIMIT_NOFILE)

    def respond(self, line: bytes) -> bytes:
        # Not 0: poll(2) checks the limit too, and the log polls one descriptor.
        soft = 1 if line == b"starve\n" else self.most[0]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, self.most[1]))
        return line


class Broken(Service):
    """Raise in the constructor, except at the first call, in the trial of the settings."""

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
    """socketserver handler: upper case, line by line.  ``fail`` raises, ``exit`` calls sys.exit()."""

    def handle(self) -> None:
        for line in self.rfile:
            if line == b"fail\n":
                raise RuntimeError("a secret of the handler")
            if line == b"exit\n":
                raise SystemExit(3)
            self.wfile.write(line.upper())


class Endless(socketserver.BaseRequestHandler):
    """socketserver handler that never returns by itself."""

    def handle(self) -> None:
        while data := self.request.recv(1024):
            self.request.sendall(data)


class Deaf(socketserver.BaseRequestHandler):
    """socketserver handler that ignores its socket; it logs its start."""

    def handle(self) -> None:
        logging.getLogger(__name__).info("deaf")
        threading.Event().wait()


class Executing(socketserver.BaseRequestHandler):
    """Execute another program, which sends ``held`` and ends with its peer."""

    def handle(self) -> None:
        self.request.setblocking(True)
        for descriptor in (0, 1):
            os.dup2(self.request.fileno(), descriptor)
        os.execvp("sh", ["sh", "-c", "echo held; exec cat"])


class Closing(socketserver.BaseRequestHandler):
    """Close all descriptors except the socket, send ``held``, and return when the peer leaves."""

    def handle(self) -> None:
        kept = self.request.fileno()
        os.closerange(3, kept)
        os.closerange(kept + 1, 1000)
        self.request.sendall(b"held\n")
        while self.request.recv(1024):
            pass


class RawDatagram(socketserver.DatagramRequestHandler):
    """socketserver handler: upper case.  ``fail`` raises after half of the reply."""

    def handle(self) -> None:
        self.wfile.write(self.packet.upper())
        if self.packet == b"fail":
            raise RuntimeError("a secret of the handler")
        if self.packet == b"exit":
            raise SystemExit(3)


class Forward(socketserver.BaseRequestHandler):
    """socketserver handler that forwards a datagram to the port given in it, and reports the number of bytes."""

    def handle(self) -> None:
        data, sock = self.request
        octets = sock.sendto(data, ("127.0.0.1", int(data)))
        sock.sendto(b"%d octets, " % octets, self.client_address)
        sock.sendto(b"from port %d" % sock.getsockname()[1], 0, self.client_address)


# --- without sockets --------------------------------------------------------------------------------


def conversation(
    respond: Callable[[bytes], Any] | None = None,
    talk: Callable[[], Any] | None = None,
    apology: Callable[[Ending], Any] = lambda ending: b"sorry\n",
    framing: Framing = LINE,
) -> Conversation:
    """Return a conversation with a service made of these functions."""
    methods: dict[str, Any] = {"framing": framing, "apology": lambda self, ending: apology(ending)}
    if respond is not None:
        methods["respond"] = lambda self, message: respond(message)
    if talk is not None:
        methods["talk"] = lambda self, peer: talk()
    return Conversation(type("Made", (Service,), methods)())


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*arguments: object) -> Any:
        raise error

    return function
