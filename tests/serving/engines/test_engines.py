"""What holds under every engine, over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from daemons import Service
from daemons.serving.conversation.endings import Ending
from daemons.serving.pump import Pump
from tests.serving.conftest import ONCE, Run, once
from tests.serving.peers import ask, connect, converse, hear, hear_all, is_gone, name_of, reset
from tests.serving.running import Process, Running, Within, access_of
from tests.serving.services import LARGE, Echo, Failing, Loud, Patient, Polite, Uncommented
from tests.transcripts.transcripts import Transcript, cut_at_random, octet_by_octet, read_all, service_of

#: Of the first two daemons; whole under every engine, as a process and here, in pieces once under each engine.
every_transcript = pytest.mark.parametrize(
    "transcript", [each for each in read_all() if each.daemon in ("launcelot", "zen")], ids=str
)
TRANSPARENT = (*ONCE[:-1], "loop in this process")


# --- transcripts -----------------------------------------------------------------------------------


@pytest.fixture
def launch(way: str, within: Callable[..., Within], kept: Callable[..., Process]) -> Callable[[str], Running]:
    """The daemon of that name, running."""

    def find(name: str) -> Running:
        engine, *here = way.split(" ", 1)
        running: Running = within(engine, Pump.for_service(service_of(name))) if here else kept(name, engine)
        return running

    return find


@pytest.mark.parametrize("daemon", ["launcelot", "zen"])
def test_transcripts_and_their_endings(daemon: str, launch: Callable[[str], Running]) -> None:
    running = launch(daemon)
    transcripts = [each for each in read_all() if each.daemon == daemon]
    held = [converse(running.address, each.sent) for each in transcripts]
    assert [heard for heard, _ in held] == [each.heard for each in transcripts]
    # Looked up together at the end: under some engines the lines are written a few times a second.
    words = {each.title: access_of(running, name)[0] for each, (_, name) in zip(transcripts, held, strict=True)}
    assert words == {each.title: each.ending.value for each in transcripts if each.ending}


@pytest.mark.parametrize("way", TRANSPARENT, indirect=True)
@pytest.mark.parametrize("daemon", sorted({each.daemon for each in read_all()} - {"launcelot", "zen"}))
def test_the_transcripts_of_every_other_service(
    daemon: str, way: str, within: Callable[..., Within], process: Callable[..., Process]
) -> None:
    engine, *here = way.split(" ", 1)
    if engine == "forks" and service_of(daemon).shares:
        pytest.skip("refused, since its peers share memory")
    running: Running = within(engine, Pump.for_service(service_of(daemon))) if here else process(daemon, engine)
    transcripts = [each for each in read_all() if each.daemon == daemon]
    held = [converse(running.address, each.sent) for each in transcripts]
    assert [heard for heard, _ in held] == [each.heard for each in transcripts]
    words = {each.title: access_of(running, name)[0] for each, (_, name) in zip(transcripts, held, strict=True)}
    assert words == {each.title: each.ending.value for each in transcripts if each.ending}
    for each in transcripts:
        with connect(running.address) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in cut_at_random(each.sent):
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)
            assert hear_all(peer) == each.heard


@every_transcript
@pytest.mark.parametrize("way", TRANSPARENT, indirect=True)
@pytest.mark.parametrize("cut", [octet_by_octet, cut_at_random])
def test_transcript_in_pieces(
    transcript: Transcript, cut: Callable[[bytes], list[bytes]], launch: Callable[[str], Running]
) -> None:
    running = launch(transcript.daemon)
    with connect(running.address) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in cut(transcript.sent):
            peer.sendall(piece)
        peer.shutdown(socket.SHUT_WR)
        assert hear_all(peer) == transcript.heard


def test_thousand_pipelined_messages_are_answered(launch: Callable[[str], Running]) -> None:
    running = launch("launcelot")
    first = next(each for each in read_all() if each.daemon == "launcelot")
    long = first.after(999, first)
    heard, name = converse(running.address, long.sent)
    assert heard == long.heard
    assert access_of(running, name) == ("done", "3000")


# --- talking ---------------------------------------------------------------------------------------


def test_requests_and_replies_alternate(run: Run) -> None:
    running = run(Polite)
    with connect(running.address) as peer:
        hear(peer, b"hello\n")
        ask(peer, b"a\n", b"1\n")
        ask(peer, b"b\nc\n", b"2\n3\n")
        ask(peer, b"bye\n", b"goodbye\n")
        assert hear_all(peer) == b""
        name = name_of(peer)
    assert access_of(running, name) == ("finished", "4")


def test_failure_sends_the_apology_and_one_log_line_and_ends_one_connection(run: Run) -> None:
    running = run(Failing)
    heard, name = converse(running.address, b"a\nfail\nb\n")
    assert heard == b"a\nsorry: failed\n"
    assert access_of(running, name) == ("failed", "2")
    assert "a secret" in running.log_line(f"{name}: the service failed")
    assert converse(running.address, b"a\n")[0] == b"a\n"


def test_a_peer_that_reads_slowly_gets_a_large_reply_whole(run: Run) -> None:
    heard, _ = converse(run(Loud).address, b"a\n")
    assert len(heard) == LARGE


@once
def test_an_apology_reaches_a_peer_that_is_still_sending_a_hundred_times_of_a_hundred(run: Run) -> None:
    running = run(Failing)
    for _ in range(100):
        with connect(running.address) as peer:
            peer.sendall(b"a" * 256 * 1024)  # 256 KiB with a limit of 64 bytes
            peer.sendall(b"\n" * 1024)
            peer.shutdown(socket.SHUT_WR)
            assert hear_all(peer) == b"sorry: oversize\n"


# --- deadlines -------------------------------------------------------------------------------------


@once
def test_silent_peer_is_closed_after_idle_timeout(run: Run) -> None:
    running = run(Echo, idle_timeout="200ms", message_timeout="200ms")
    with connect(running.address) as peer:
        assert hear_all(peer) == b""
        assert access_of(running, name_of(peer)) == ("idle", "0")


@once
def test_idle_peer_is_closed_after_idle_timeout(run: Run) -> None:
    running = run(Echo, idle_timeout="1s", message_timeout="1s")
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"a\n")
        assert hear_all(peer) == b""
        assert access_of(running, name_of(peer)) == ("idle", "1")


@once
def test_half_a_message_ends_as_slow_after_message_timeout(run: Run) -> None:
    running = run(Echo, idle_timeout="1h", message_timeout="200ms")
    with connect(running.address) as peer:
        ask(peer, b"a\nb", b"a\n")
        assert hear_all(peer) == b""
        assert access_of(running, name_of(peer)) == ("slow", "1")


@once
def test_incomplete_message_is_discarded(run: Run) -> None:
    running = run(Uncommented, idle_timeout="1s", message_timeout="1h")
    with connect(running.address) as peer:
        ask(peer, b"a\n#b", b"a\n")
        peer.sendall(b"c\n")
        assert hear_all(peer) == b""
        assert access_of(running, name_of(peer)) == ("idle", "1")


@once
@pytest.mark.parametrize(
    ("octet", "limits", "ending"),
    [
        (b"a", {"idle_timeout": "1h", "message_timeout": "200ms"}, Ending.SLOW),
        (b"\r", {"idle_timeout": "200ms", "message_timeout": "1h"}, Ending.IDLE),
    ],
)
def test_message_timeout_is_not_extended_by_single_bytes(
    octet: bytes, limits: dict[str, str], ending: Ending, run: Run
) -> None:
    running = run(Patient, **limits)
    with connect(running.address) as peer:
        peer.settimeout(0.02)
        while True:
            try:
                peer.sendall(octet)
                assert peer.recv(1) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert access_of(running, name_of(peer)) == (ending.value, "0")


@once
def test_peer_that_does_not_read_a_reply_is_stuck(run: Run) -> None:
    running = run(Loud, write_timeout="200ms")
    with connect(running.address) as peer:
        peer.sendall(b"a\n")
        assert access_of(running, name_of(peer)) == ("stuck", "1")
        assert is_gone(peer) is False


@once
def test_peer_that_reads_a_reply_byte_by_byte_is_stuck(run: Run) -> None:
    running = run(Loud, write_timeout="200ms")
    with connect(running.address) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sendall(b"a\n")
        cut = threading.Event()

        def sip() -> None:
            while not cut.wait(0.01):
                assert peer.recv(16)

        sipping = threading.Thread(target=sip)
        sipping.start()
        assert access_of(running, name_of(peer)) == ("stuck", "1")
        cut.set()
        sipping.join()


# --- coming and going ------------------------------------------------------------------------------


def test_reset_is_one_access_line_and_no_error(run: Run) -> None:
    running = run(Echo)
    peer = connect(running.address)
    ask(peer, b"a\n", b"a\n")
    name = name_of(peer)
    reset(peer)
    assert access_of(running, name) == ("reset", "1")


def test_peer_that_leaves_within_a_reply_is_no_error(run: Run) -> None:
    running = run(Loud)
    with connect(running.address) as peer:
        peer.sendall(b"a\n")
        assert peer.recv(1) == b"x"
        name = name_of(peer)
    assert access_of(running, name) == ("reset", "1")


@pytest.mark.parametrize("kind", [Echo, Polite])
def test_concurrent_peers_get_their_own_replies(run: Run, kind: type[Service], way: str) -> None:
    address = run(kind).address
    heard: dict[int, bytes] = {}

    def visit(number: int) -> None:
        heard[number] = converse(address, b"%d\n" % number * 10)[0]

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(16)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    expected = b"hello\n" + b"".join(b"%d\n" % count for count in range(1, 11))
    assert heard == {number: b"%d\n" % number * 10 if kind is Echo else expected for number in range(16)}
