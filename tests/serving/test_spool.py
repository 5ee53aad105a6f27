"""The spool holds replies that the peer has not read yet, while the server reads its further messages."""

from __future__ import annotations

import errno
import os
import random
import re
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons import Service, Stream
from daemons.serving import spool
from daemons.serving.guards import budget
from daemons.serving.guards.budget import Budget
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.spool import Spool, SpooledSocket
from tests.serving.conftest import Run, once
from tests.serving.peers import connect, eventually, hear_all, name_of
from tests.serving.running import Within, access_of

#: More than the kernel keeps for the two ends, and than is kept in memory.
MUCH = 24 * 1024**2


class Same(Service):
    """Echo service."""

    framing = Stream()

    def respond(self, piece: bytes) -> bytes:
        return piece


@once
def test_peer_that_sends_everything_before_reading_gets_all_replies(run: Run) -> None:
    running = run(Same, spool="64MiB", write_timeout="10s")
    data = random.randbytes(MUCH)
    with connect(running.address) as peer:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        assert hear_all(peer) == data
        name = name_of(peer)
    assert access_of(running, name)[0] == "done"


@once
def test_full_spool_stops_reading_and_the_peer_ends_as_stuck(run: Run) -> None:
    running = run(Same, spool="2MiB", write_timeout="500ms")
    with connect(running.address) as peer:
        with pytest.raises((ConnectionError, TimeoutError)):
            peer.sendall(bytes(64 * 1024**2))
        name = name_of(peer)
        assert access_of(running, name)[0] == "stuck"
    told = re.search(r"sent=(\d+)", running.log_line(name, " messages="))
    assert told
    # Spooled bytes that were never sent are not counted as sent.
    received = re.search(r"received=(\d+)", running.log_line(name, " messages="))
    assert received
    assert int(told[1]) <= int(received[1]) - 2 * 1024**2


@once
def test_peer_that_leaves_buffered_replies_unread_is_noticed(run: Run) -> None:
    running = run(Same, spool="64MiB")
    with connect(running.address) as peer:
        peer.sendall(bytes(16 * 1024**2))
        name = name_of(peer)
    assert access_of(running, name)[0] == "reset"


# --- the spool itself ------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=60), st.integers(1, 64))
def test_spool_returns_the_same_bytes_and_holds_at_most_its_cap(steps: list[tuple[bool, int]], cap: int) -> None:
    kept = Spool(cap)
    memory, spool.MEMORY = spool.MEMORY, 16
    put, seen, number = bytearray(), bytearray(), 0
    try:
        for is_put, count in steps:
            if is_put:
                data = bytes((number + at) % 251 for at in range(count))
                number += count
                put += data[: kept.put(memoryview(data))]
                number = len(put)
            else:
                piece = bytes(kept.peek()[:count])
                kept.drop(len(piece))
                seen += piece
            assert len(kept) == len(put) - len(seen) <= cap
        while piece := bytes(kept.peek()):
            kept.drop(len(piece))
            seen += piece
        assert seen == put
    finally:
        spool.MEMORY = memory
        kept.close()


def test_bytes_written_before_the_disk_is_full_are_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Spool(spool.MEMORY + 4)
    kept.put(memoryview(bytes(spool.MEMORY)))
    kept.put(memoryview(b"ab"))
    kept.drop(len(kept.peek()))
    kept.drop(len(kept.peek()))
    write = os.pwrite

    def to_the_end(descriptor: int, data: memoryview, at: int) -> int:
        if not at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", to_the_end)
    room = spool.MEMORY + 2  # from here on it is written at the beginning again
    assert kept.put(memoryview(b"c" * room + b"dd")) == room
    with pytest.raises(OSError, match="No space"):
        kept.put(memoryview(b"dd"))
    assert len(kept) == room
    kept.close()


def test_full_disk_disables_the_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ours, theirs = socket.socketpair()
    with theirs, spool.SpooledSocket(ours, 64 * 1024**2) as kept:
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
        sent = 0
        with suppress(BlockingIOError):
            while sent < 64 * 1024**2:
                sent += kept.send(bytes(64 * 1024))
        with pytest.raises(BlockingIOError):
            kept.send(bytes(64 * 1024))
        assert kept.unsent <= spool.MEMORY
        received = 0
        while received < sent:
            kept.flush()
            received += len(theirs.recv(1024**2))
        assert kept.unsent == 0


def test_memory_of_a_spool_is_charged_and_without_room_the_file_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "PROCESS", Budget(1024**2))
    kept, other = Spool(4 * 1024**2), Spool(4 * 1024**2)
    data = memoryview(random.randbytes(600_000))
    assert kept.put(data[:400_000]) == 400_000
    assert budget.PROCESS.held >= 400_000
    assert other.put(data) == 600_000
    assert budget.PROCESS.held < 600_000
    assert drained(other) == data
    kept.close()
    other.close()
    assert budget.PROCESS.held == 0


def drained(kept: Spool) -> bytes:
    out = bytearray()
    while piece := bytes(kept.peek()):
        out += piece
        kept.drop(len(piece))
    return bytes(out)


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_error_of_the_spool_file_is_a_failure(engine: str, within: Callable[..., Within]) -> None:
    running = within(engine, Pump.for_service(Same()), Limits(spool=64 * 1024**2))
    with connect(running.address) as peer:
        peer.sendall(bytes(MUCH))
        name = name_of(peer)
        (connection,) = running.server.connections.values()
        kept = connection.socket
        assert isinstance(kept, SpooledSocket)
        eventually(lambda: connection.received == MUCH)
        assert kept._spool._file is not None
        os.ftruncate(kept._spool._file.fileno(), 0)
        with suppress(OSError):
            hear_all(peer)
    assert access_of(running, name)[0] == "failed"
    running.log_line(f"{name}: the service failed", "spool file was truncated")
