"""Replies in pieces, under every engine: no more of one is made than its peer takes."""

from __future__ import annotations

import pytest

from daemons.serving.pump import Pump
from tests.serving.conftest import ONCE, Run
from tests.serving.peers import connect, eventually, hear, hear_all, name_of
from tests.serving.running import Within, access_of
from tests.serving.services import LARGE, SOME, CutShort, Pieces

each_engine = pytest.mark.parametrize("way", [*ONCE[:-1], "loop in this process"], indirect=True)


@each_engine
def test_long_reply_stream_is_generated_as_the_peer_reads(run: Run) -> None:
    running = run(Pieces)
    with connect(running.address) as peer:
        peer.sendall(b"some\nall\na\nb\nfail\nc\n")
        hear(peer, b"x" * (SOME + 1))
        # If the stream were read into memory first, it would be finished before the first byte is sent.
        assert not (isinstance(running, Within) and running.lines.count("all drawn") == 2)
        heard, name = hear_all(peer), name_of(peer)
        assert len(heard) == LARGE - 1 + len(b"a\nb\nhalf")
        assert heard.endswith(b"xa\nb\nhalf")
    # After half of a reply, no apology.
    assert access_of(running, name) == ("failed", "5")
    assert "a secret" in running.log_line(f"{name}: the service failed")


@each_engine
def test_a_reply_that_is_cut_short_closes_the_connection_and_is_one_log_line(run: Run) -> None:
    running = run(CutShort)
    with connect(running.address) as peer:
        peer.sendall(b"a\nb\n")
        heard, name = hear_all(peer), name_of(peer)
    assert heard == b"half"
    assert access_of(running, name) == ("failed", "1")
    line = running.log_line(f"{name}: the source failed")
    assert "Traceback" not in line
    assert "ERROR" not in line


@each_engine
def test_reply_stream_is_closed_when_the_peer_leaves(run: Run) -> None:
    running = run(Pieces)
    with connect(running.address) as peer:
        peer.sendall(b"all\n")
        hear(peer, b"x")
        name = name_of(peer)
    assert access_of(running, name) == ("reset", "1")
    running.log_line("put away")


@pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])
def test_reply_stream_is_closed_when_the_server_ends_without_draining(engine: str) -> None:
    running = Within(engine, Pump.for_service(Pieces()))
    with connect(running.address) as peer:
        peer.sendall(b"all\n")
        hear(peer, b"x")
        running.server.shutdown()
        running.server.server_close()
        running.log_line("put away")
    eventually(lambda: not running.alive)
    with pytest.raises(AssertionError, match="the loop had ended"):
        running.close()
