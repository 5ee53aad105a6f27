"""Replies with file slices: sent with sendfile(2), or read; incomplete if the file is truncated."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemons import Lines, Reply, Service
from daemons.framings import Framing
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.states import IDLE, OVER, PENDING
from daemons.serving.conversation.tls import TLS
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import connect, hear, is_gone, name_of, reset
from tests.serving.running import Within, access_of
from tests.serving.tls_client import ours, theirs

Start = Callable[..., Within]
ENGINES = pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])

LONG = 3 * 1024**2


class AsItIs(Lines):
    """Framing of messages as lines, with unframed replies."""

    encode = Framing.encode


class Shelf(Service):
    """Reply with a slice of a file, between two byte strings."""

    framing = AsItIs(limit=100)

    def __init__(self, path: Path, size: int, missing: int = 0) -> None:
        super().__init__()
        self.path = path
        self.size = size
        self.missing = missing
        path.write_bytes(os.urandom(size))

    @property
    def content(self) -> bytes:
        return b"<" + self.path.read_bytes() + b">"

    def respond(self, message: bytes) -> Reply:
        return self.pieces()

    def pieces(self) -> Iterator[bytes | FileSlice]:
        with self.path.open("rb") as file:
            yield b"<"
            yield FileSlice(file.fileno(), 0, self.size // 2)
            yield FileSlice(file.fileno(), self.size // 2, self.size - self.size // 2 + self.missing)
            yield b">"


def drawn(talk: Conversation, *, files: bool) -> Iterator[bytes]:
    """Return all bytes of a reply, as an engine would send them."""
    yield talk.receive(b"?\n")
    while talk.state == PENDING:
        yield talk.proceed(files=files)
        while files and talk.file_slice is not None and talk.file_slice.left:
            yield talk.file_slice.read(10_000)


@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("size", [0, 1, 1000, BATCH, 5 * BATCH + 7])
def test_slice_is_sent_or_read_at_the_seam(files: bool, size: int, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", size)
    talk = Conversation(shelf)
    for _ in range(2):
        pieces = list(drawn(talk, files=files))
        assert b"".join(pieces) == shelf.content
        assert max(map(len, pieces)) <= BATCH + 2
        assert (talk.state, talk.file_slice) == (IDLE, None)


def test_truncated_file_is_a_failure_at_the_seam(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", 3 * BATCH, missing=1)
    talk = Conversation(shelf)
    assert b"".join(drawn(talk, files=False)) == shelf.content[:-1]
    assert (talk.state, talk.ending) == (OVER, Ending.FAILED)
    talk.close()
    assert str(talk.failure) == f"{tmp_path}/shelf: file truncated while it was sent: 1 bytes missing"


@ENGINES
@pytest.mark.parametrize("spool", [None, 1024**2])
def test_slice_is_complete_and_the_next_message_is_answered(
    engine: str, spool: int | None, within: Start, tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path / "shelf", LONG)
    running = within(engine, Pump.for_service(shelf), Limits(spool=spool))
    with connect(running.address) as peer:
        peer.sendall(b"1\n2\n")
        hear(peer, 2 * shelf.content)
        peer.sendall(b"3\n")
        hear(peer, shelf.content)
        name = name_of(peer)
    assert access_of(running, name) == ("done", "3")
    assert f" sent={3 * len(shelf.content)} " in running.log_line(f"{name} done")


@ENGINES
def test_truncated_file_closes_the_connection(engine: str, within: Start, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", LONG, missing=10)
    running = within(engine, Pump.for_service(shelf))
    with connect(running.address) as peer:
        peer.sendall(b"1\n2\n")
        hear(peer, shelf.content[:-1])
        assert is_gone(peer)
        name = name_of(peer)
    assert access_of(running, name) == ("failed", "1")
    running.log_line(f"{name}: the service failed", "file truncated while it was sent: 10 bytes missing")


class Unsendable(Service):
    """Reply with bytes of /proc/self/mem, mapped or unmapped: sendfile(2) refuses either (EINVAL, EOVERFLOW), and
    read(2) the latter (EIO)."""

    framing = AsItIs(limit=100)

    def __init__(self) -> None:
        super().__init__()
        self.content = os.urandom(LONG)
        self._buffer = ctypes.create_string_buffer(self.content, LONG)

    def respond(self, message: bytes) -> Reply:
        return self.pieces(ctypes.addressof(self._buffer) if message == b"whole" else UNMAPPED)

    def pieces(self, start: int) -> Iterator[bytes | FileSlice]:
        with open("/proc/self/mem", "rb") as file:
            yield b"<"
            yield FileSlice(file.fileno(), start, LONG)
            yield b">"


#: An address below mmap_min_addr, proc(5): no process has anything there.
UNMAPPED = 4096


@ENGINES
def test_file_without_sendfile_support_is_read(engine: str, within: Start) -> None:
    service = Unsendable()
    running = within(engine, Pump.for_service(service))
    with connect(running.address) as peer:
        for _ in range(2):
            peer.sendall(b"whole\n")
            hear(peer, b"<" + service.content + b">")
        name = name_of(peer)
    assert access_of(running, name) == ("done", "2")
    assert f" sent={2 * (LONG + 2)} " in running.log_line(f"{name} done")


@ENGINES
@pytest.mark.parametrize("spool", [None, 1024**2])
def test_read_error_is_a_failure_with_the_path(engine: str, spool: int | None, within: Start) -> None:
    running = within(engine, Pump.for_service(Unsendable()), Limits(spool=spool))
    with connect(running.address) as peer:
        peer.sendall(b"broken\n")
        hear(peer, b"<")
        assert is_gone(peer)
        name = name_of(peer)
    assert access_of(running, name) == ("failed", "1")
    running.log_line(f"{name}: the service failed", "Input/output error", "/mem")


@ENGINES
def test_reset_while_a_file_is_sent_is_not_a_failure(engine: str, within: Start, tmp_path: Path) -> None:
    running = within(engine, Pump.for_service(Shelf(tmp_path / "shelf", 16 * LONG)))
    peer = connect(running.address)
    name = name_of(peer)
    peer.sendall(b"1\n")
    hear(peer, b"<")
    reset(peer)
    assert access_of(running, name) == ("reset", "1")


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_slice_is_complete_over_tls(engine: str, within: Start, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", LONG)
    running = within(engine, Pump.for_service(shelf))
    assert isinstance(running.server, StreamServer)
    running.server.tls = TLS(ours())
    with (
        connect(running.address) as plain,
        theirs().wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as peer,
    ):
        peer.sendall(b"1\n")
        hear(peer, shelf.content)


@ENGINES
def test_reset_while_a_file_is_sent_closes_the_file(engine: str, within: Start, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", 8 * LONG)
    running = within(engine, Pump.for_service(shelf))
    with connect(running.address) as peer:
        peer.sendall(b"1\n")
        hear(peer, b"<")
        name = name_of(peer)
    assert access_of(running, name) == ("reset", "1")
