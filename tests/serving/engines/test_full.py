"""At the limit of connections, peers that send no complete message give way, under every engine."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from daemons.serving.connection import GRACE
from daemons.serving.engines import ENGINES
from daemons.serving.guards import eviction
from tests.operating.live import GRAIL, QUEST
from tests.serving.conftest import Run
from tests.serving.peers import ask, connect, hear, is_gone, name_of
from tests.serving.running import Process, access_of
from tests.serving.services import Echo
from tests.serving.tls_live import connect as connect_tls
from tests.serving.tls_live import plain, read, serve

every_engine = pytest.mark.parametrize("engine", ENGINES)


def places(way: str) -> int:
    """Return the number of connections to allow under an engine."""
    return 1 if way.startswith("one") else 3


def test_half_messages_in_every_place_give_way_to_honest_requests(run: Run, way: str) -> None:
    most = places(way)
    running = run(Echo, max_connections=str(most), message_timeout="300s")
    with ExitStack() as stack:
        # One sends nothing; others, and those that wait in the queue, send a part of a message.
        halves = [stack.enter_context(connect(running.address)) for _ in range(2 * most)]
        for half in halves[1:]:
            half.sendall(b"half")
        for number in range(10):
            with connect(running.address) as peer:
                ask(peer, b"%d\n" % number, b"%d\n" % number)
        assert is_gone(halves[0])
        assert access_of(running, name_of(halves[0])) == ("refused", "0")
        assert "reason=full" in running.log_line(name_of(halves[0]), "refused")


def test_idle_connection_is_evicted_only_if_none_has_less_than_one_message(run: Run, way: str) -> None:
    if way.startswith("one"):
        pytest.skip("one connection at a time")
    running = run(Echo, max_connections="2", message_timeout="300s", write_timeout="299s")
    with connect(running.address) as kept, connect(running.address) as half:
        ask(kept, b"a\n", b"a\n")
        half.sendall(b"half")
        with connect(running.address) as peer:
            ask(peer, b"b\n", b"b\n")
            assert is_gone(half)
        ask(kept, b"c\n", b"c\n")


@pytest.mark.parametrize("way", ["one in this process", "threads in this process", "loop", "forks"], indirect=True)
def test_idle_connections_in_every_place_give_way(run: Run, way: str) -> None:
    most = places(way)
    running = run(Echo, max_connections=str(most), message_timeout="300s", write_timeout="298s")
    with ExitStack() as stack:
        kept = [stack.enter_context(connect(running.address)) for _ in range(most)]
        for peer in kept:
            ask(peer, b"a\n", b"a\n")
        newcomer = stack.enter_context(connect(running.address))
        ask(newcomer, b"b\n", b"b\n")
        assert is_gone(kept[0])


def test_slow_peer_is_not_closed_while_there_is_room(run: Run, way: str) -> None:
    if way.startswith("one"):
        pytest.skip("there is never room")
    running = run(Echo, max_connections="3", message_timeout="300s", write_timeout="297s")
    with connect(running.address) as slow, connect(running.address) as second:
        ask(second, b"a\n", b"a\n")
        begun = time.monotonic()
        for _ in range(4):
            slow.sendall(b"a")
            assert not select.select([slow], [], [], GRACE / 2)[0]
            with connect(running.address) as third:
                ask(third, b"b\n", b"b\n")
        assert time.monotonic() - begun > GRACE
        ask(slow, b"\n", b"aaaa\n")


@pytest.mark.parametrize("engine", ["threads", "forks", "pool"])
def test_connection_being_answered_is_never_evicted(
    process: Callable[..., Process], tmp_path: Path, engine: str
) -> None:
    running = process("tests.serving.services:AwaitingFile", engine, "limits.max_connections=2")
    with connect(running.address) as busy, connect(running.address) as half:
        busy.sendall(b"answered\n")
        half.sendall(b"x")
        for _ in range(3):
            with connect(running.address) as peer:
                ask(peer, b"\n", b"\n")
        assert is_gone(half)
        with connect(running.address) as mute, connect(running.address) as peer:
            ask(peer, b"\n", b"\n")
            assert is_gone(mute)
        tmp_path.joinpath("answered").touch()
        hear(busy, b"answered\n")


@every_engine
def test_unfinished_handshakes_give_way(tmp_path: Path, engine: str) -> None:
    most = places(engine)
    limits = ["--set", f"limits.max_connections={most}", "--set", "limits.handshake_timeout=300s"]
    with serve(tmp_path, "service = launcelot", "--engine", engine, *limits) as daemon, ExitStack() as stack:
        mute = [stack.enter_context(plain(daemon)) for _ in range(most)]
        for each in mute[1:]:
            each.sendall(b"\x16\x03\x01")
        for _ in range(3):
            with connect_tls(daemon) as peer:
                peer.sendall(QUEST)
                assert read(peer, len(GRAIL)) == GRAIL
        assert is_gone(mute[0])
        stack.close()
        assert daemon.stop() == 0


def test_limit_is_logged_once_and_counted(process: Callable[..., Process]) -> None:
    running = process("tests.serving.services:Echo", "loop", "limits.max_connections=2")
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(running.address)).sendall(b"half")
        for _ in range(5):
            with connect(running.address) as peer:
                ask(peer, b"a\n", b"a\n")
    running.signal()
    assert running.wait() == 0
    log = running.all_said()[0]
    assert log.count("limit of 2 connections reached") == 1


def stuff(peer: socket.socket) -> None:
    """Send messages until the daemon stops reading them, because their replies are not read."""
    peer.settimeout(0.3)
    with suppress(TimeoutError):
        while True:
            peer.sendall(b"unread\n" * 10_000)


@pytest.mark.parametrize(
    "way", ["threads in this process", "pool in this process", "loop in this process"], indirect=True
)
def test_peers_that_never_read_give_way(run: Run, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "IDLE_GRACE", 0.5)
    running = run(Echo, max_connections="2", write_timeout="300s")
    with connect(running.address) as first, connect(running.address) as second:
        stuff(first)
        stuff(second)
        for number in range(3):
            with connect(running.address) as peer:
                ask(peer, b"%d\n" % number, b"%d\n" % number)
        assert "reason=full" in running.log_line(name_of(first), "refused")


def test_peers_that_never_read_give_way_under_forks(process: Callable[..., Process]) -> None:
    running = process("tests.serving.services:Echo", "forks", "limits.max_connections=2", "limits.write_timeout=300s")
    with connect(running.address) as first, connect(running.address) as second:
        stuff(first)
        stuff(second)
        with connect(running.address) as peer:
            ask(peer, b"a\n", b"a\n")
        assert "reason=full" in running.log_line(name_of(first), "refused")
