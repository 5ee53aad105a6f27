"""`[limits] held`: one budget for the unfinished messages and unsent replies of all peers.

Beyond the budget the newest peers wait or are ended, the daemon survives, honest requests are answered meanwhile, and
all memory is released afterwards."""

from __future__ import annotations

import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from daemons.operating.metrics.stats import Figures, read
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.conversation.states import IDLE
from tests.operating.folder import Folder
from tests.operating.live import GRAIL, QUEST, Live, until
from tests.promises.crowds import MIB, address_of, growth, settings
from tests.serving.peers import ask, connect, hear, hear_all, reset
from tests.serving.services import conversation as made
from tests.serving.tls_live import connect as tls_connect
from tests.serving.tls_live import serve

many_at_once = pytest.mark.parametrize("engine", ["threads", "pool", "loop"])

#: The budget of these tests, and how much more a daemon may grow.
HELD = 64 * MIB
SLACK = 32 * MIB

SERVICES = """
    import http.server
    import os
    import time

    import daemons

    class Patient(daemons.Service):
        framing = daemons.Until(b"\\n", limit=32 * 1024 * 1024)

        def respond(self, line):
            return b"%d\\n" % len(line) if line != b"large\\n" else b"x" * 4 * 1024 * 1024

    class Blocking(Patient):
        blocks = True

    class Held(Blocking):
        def respond(self, line):
            while not os.path.exists("go"):
                time.sleep(0.01)
            return super().respond(line)

    class TwoWay(daemons.Service):
        framing = daemons.Whole(limit=32 * 1024 * 1024)

        def respond(self, message):
            if len(message) > 1000:
                open("executed", "w").close()
            return message.upper()

    class Packed(daemons.Service):
        framing = daemons.Compressed(limit=32 * 1024 * 1024)

        def respond(self, message):
            return message

    class Posted(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            size = b"%d" % len(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", str(len(size)))
            self.end_headers()
            self.wfile.write(size)

    class Prefixed(daemons.Service):
        framing = daemons.LengthPrefixed(limit=1024 * 1024)

        def respond(self, message):
            return message
"""


@pytest.fixture
def run(folder: Folder) -> Iterator[Callable[..., Live]]:
    """Start a daemon of one of the services."""
    folder.module("hoard", SERVICES)
    with ExitStack() as stack:

        def start(service: str, engine: str, **limits: object) -> Live:
            folder.write("hoard", f"[daemon]\nservice = hoard:{service}\nport = 0\n")
            limits = {"held": "64MiB", **limits}
            return stack.enter_context(Live(folder.path, "hoard", "--engine", engine, *settings(**limits)))

        yield start


def figures(folder: Folder) -> Figures:
    return read(folder.path / "run" / "hoard.metrics")


@contextmanager
def senders(daemon: Live, count: int, *pieces: bytes) -> Iterator[list[socket.socket]]:
    """Open connections that send `pieces`, as far as the daemon reads; they are reset at the end."""
    peers = [connect(address_of(daemon)) for _ in range(count)]

    def send(peer: socket.socket) -> None:
        with suppress(OSError):
            for piece in pieces:
                peer.sendall(piece)

    threads = [threading.Thread(target=send, args=(peer,)) for peer in peers]
    for thread in threads:
        thread.start()
    try:
        yield peers
    finally:
        for peer in peers:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)  # which ends a blocked send
        for thread in threads:
            thread.join()
        for peer in peers:
            reset(peer)


def rss(pid: int) -> int:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def see_released(folder: Folder, daemon: Live, before: int) -> None:
    until(lambda: figures(folder).active == 0, "the end of the conversations")
    until(lambda: figures(folder).held == 0, "nothing held")
    until(lambda: rss(daemon.process.pid) - before < SLACK, "the memory given back")


@many_at_once
def test_half_messages_of_all_peers_together_stay_within_the_budget(
    run: Callable[..., Live], folder: Folder, engine: str
) -> None:
    daemon = run("Patient", engine, message_timeout="10m")
    with connect(address_of(daemon)) as honest:
        ask(honest, b"a\n", b"2\n")
        before = rss(daemon.process.pid)
        with growth(daemon.process.pid, HELD + SLACK), senders(daemon, 8, *[b"x" * MIB] * 30) as _:
            until(lambda: figures(folder).waits >= 6, "peers that wait for room")
            until(lambda: figures(folder).held >= HELD // 2, "the budget half used")
            for _ in range(100):
                ask(honest, b"a\n", b"2\n")
            with connect(address_of(daemon)) as another:  # a client whose message comes in two parts is served, too
                another.sendall(b"x" * 40_000)
                ask(another, b"x\n", b"40002\n")
            assert figures(folder).held <= HELD
    see_released(folder, daemon, before)
    assert "Traceback" not in daemon.out + daemon.err


@pytest.mark.parametrize(
    ("engine", "service"), [("threads", "Patient"), ("pool", "Patient"), ("pool", "Blocking"), ("loop", "Patient")]
)
def test_messages_beyond_the_budget_are_answered_one_after_the_other(
    run: Callable[..., Live], folder: Folder, engine: str, service: str
) -> None:
    daemon = run(service, engine)
    message = b"x" * (12 * MIB) + b"\n"
    with growth(daemon.process.pid, HELD + SLACK), senders(daemon, 8, message) as peers:
        for peer in peers:
            hear(peer, b"%d\n" % len(message))
    until(lambda: figures(folder).waits > 0 and figures(folder).held == 0, "peers that waited, and nothing held")
    assert sum(figures(folder).refused.values()) == 0


def test_messages_that_wait_for_a_thread_of_the_pool_are_not_read(folder: Folder) -> None:
    folder.module("hoard", SERVICES)
    folder.write("hoard", "[daemon]\nservice = hoard:Held\nport = 0\nengine = pool\nthreads = 2\n")
    with Live(folder.path, "hoard") as daemon:
        line = b"x" * 60_000 + b"\n"
        with growth(daemon.process.pid, 28 * MIB), senders(daemon, 600, line) as peers:
            until(lambda: figures(folder).active >= 600, "all connections")
            (folder.path / "go").touch()
            for peer in peers:
                hear(peer, b"60001\n")


@many_at_once
def test_waiting_peers_are_ended_by_the_message_deadline_and_nothing_is_executed(
    run: Callable[..., Live], folder: Folder, engine: str
) -> None:
    daemon = run("TwoWay", engine, message_timeout="2s")
    with senders(daemon, 6, *[b"x" * MIB] * 20) as _:
        until(lambda: daemon.out.count(" slow messages=0 ") == 6, "the end of all")
    until(lambda: figures(folder).held == 0, "nothing held")
    with connect(address_of(daemon)) as honest:
        honest.sendall(b"ni")
        honest.shutdown(socket.SHUT_WR)
        assert hear_all(honest) == b"NI"
    assert not (folder.path / "executed").exists()


@many_at_once
def test_many_small_half_messages_stay_within_the_budget(run: Callable[..., Live], folder: Folder, engine: str) -> None:
    daemon = run("Prefixed", engine, held="16MiB", message_timeout="10m")
    with connect(address_of(daemon)) as honest:
        ask(honest, b"\0\0\0\2ok", b"\0\0\0\2ok")
        with growth(daemon.process.pid, 16 * MIB + SLACK), senders(daemon, 100, b"\0\x10\0\0" + b"x" * 900_000) as _:
            until(lambda: figures(folder).waits >= 80, "peers that wait for room")
            for _ in range(100):
                ask(honest, b"\0\0\0\2ok", b"\0\0\0\2ok")
            assert figures(folder).held <= 16 * MIB
    until(lambda: figures(folder).held == 0, "nothing held")


@many_at_once
def test_peers_that_never_read_give_way_the_least_active_first(
    run: Callable[..., Live], folder: Folder, engine: str
) -> None:
    daemon = run("Patient", engine, write_timeout="10m")
    # Threads may be building a reply that is not charged yet: each of a pool, and some of those that take turns.
    made_now = {"pool": 16, "threads": 4, "loop": 0}[engine] * 4 * MIB
    with growth(daemon.process.pid, HELD + SLACK + made_now), senders(daemon, 40, b"large\n") as _:
        until(lambda: figures(folder).refused["held"] > 0, "peers that give way")
        with connect(address_of(daemon)) as honest:
            for _ in range(100):
                ask(honest, b"a\n", b"2\n")
            honest.sendall(b"large\n")
            hear(honest, b"x" * 4 * MIB)
    until(lambda: figures(folder).held == 0, "nothing held")
    until(lambda: re.search(r" refused messages=1 .* reason=held$", daemon.out, re.MULTILINE), "the access line")


def test_a_single_message_beyond_the_whole_budget_is_refused_at_once(run: Callable[..., Live], folder: Folder) -> None:
    daemon = run("Patient", "forks", held="2MiB", message_timeout="10m")
    with senders(daemon, 1, b"x" * (8 * MIB)) as _:
        until(lambda: " refused messages=0 " in daemon.out, "the refusal")
    assert "reason=held" in daemon.out


@pytest.mark.parametrize("engine", ["loop"])  # threads that decompress at once may each exceed it by one piece
def test_decompressed_size_of_a_message_counts(run: Callable[..., Live], folder: Folder, engine: str) -> None:
    daemon = run("Packed", engine, message_timeout="10m")
    half = zlib.compress(bytes(30 * MIB), 9)[:-10]
    with growth(daemon.process.pid, HELD + SLACK), senders(daemon, 8, half) as _:
        until(lambda: figures(folder).waits >= 1, "a peer that waits for room")
    until(lambda: figures(folder).held == 0, "nothing held")


@many_at_once
def test_half_bodies_of_http_count(folder: Folder, engine: str) -> None:
    folder.module("hoard", SERVICES)
    folder.write("hoard", "[daemon]\nhandler = hoard:Posted\nport = 0\n")
    limits = settings(held="32MiB", body="32MiB", message_timeout="10m")
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    with (
        Live(folder.path, "hoard", "--engine", engine, *limits) as daemon,
        growth(daemon.process.pid, 32 * MIB + SLACK),
        senders(daemon, 8, head % (32 * MIB), *[b"x" * MIB] * 20) as _,
        connect(address_of(daemon)) as honest,
    ):
        until(lambda: figures(folder).waits >= 6, "peers that wait for room")
        for _ in range(50):
            honest.sendall(head % 5000)
            honest.sendall(b"x" * 5000)
            hear(honest, b"HTTP/1.1 200 OK\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\n5000"):
                answer += honest.recv(4096)


@many_at_once
def test_half_handshakes_of_tls_count_and_honest_clients_are_served(tmp_path: Path, engine: str) -> None:
    hello = b"\x16\x03\x01\x02\x00" + bytes(300)  # part of a record
    see_half_handshakes_give_way(tmp_path, engine, hello, held=8, count=400)


@pytest.mark.parametrize(
    "hello",
    [
        b"\x16\x03\x01\x00\x04\x01\x01\xff\x00",  # 128 KiB, which OpenSSL allocates at once
        b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x02\xff\x00",
    ],
    ids=["in one record", "in three records"],
)
@pytest.mark.parametrize("engine", ["pool", "loop"])
def test_long_handshake_messages_count_from_their_announcement(tmp_path: Path, hello: bytes, engine: str) -> None:
    # Not under threads, which may read many announcements before the first connections are ended.
    see_half_handshakes_give_way(tmp_path, engine, hello, held=24, count=700)


def see_half_handshakes_give_way(tmp_path: Path, engine: str, hello: bytes, *, held: int, count: int) -> None:
    limits = settings(held=f"{held}MiB", handshake_timeout="10m")
    with serve(tmp_path, "service = launcelot", "--engine", engine, *limits) as daemon:
        with growth(daemon.process.pid, held * MIB + SLACK), senders(daemon, count, hello) as _:
            path = tmp_path / "run" / "x.metrics"
            until(lambda: read(path).refused["held"] >= count // 5, "peers that give way")
            for _ in range(20):
                with tls_connect(daemon) as honest:
                    honest.sendall(QUEST)
                    hear(honest, GRAIL)
        until(lambda: read(path).held == 0, "nothing held")


def test_idle_tls_connections_release_their_buffers(tmp_path: Path) -> None:
    size = 60_000
    with serve(tmp_path, "service = prefix", "--engine", "loop") as daemon, ExitStack() as stack:
        for number in range(120):
            peer = stack.enter_context(tls_connect(daemon))
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask(peer, size.to_bytes(4, "big") + bytes(size), size.to_bytes(4, "big") + bytes(size))
            if number == 19:
                before = rss(daemon.process.pid)
        # OpenSSL's state, and a record in either direction.
        assert rss(daemon.process.pid) - before < 100 * 80 * 1024


def test_a_proxy_header_in_parts_and_the_bytes_behind_it_count() -> None:
    conversation = ProxiedConversation(made(respond=lambda line: line), lambda header: None)
    conversation.receive(b"PROXY TCP4 192.0.2.7 ")
    assert conversation.buffered == 21
    conversation.receive(b"127.0.0.1 4242 80\r\n" + b"x" * 30)
    assert conversation.buffered >= 30
    conversation.proceed()
    assert conversation.buffered >= 30
    conversation.receive(b"\n")
    assert conversation.state == IDLE
