"""Replies that come later, and the life of a service, over every engine."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable

import pytest

from daemons import Lines, Peer, Reply, Service, Talk
from daemons.serving.engines import stream_server
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from tests.serving.peers import ask, connect, eventually, hear, hear_all, name_of, reset
from tests.serving.running import Within, access_of

Start = Callable[..., Within]

ENGINES = pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])
SHARING = pytest.mark.parametrize("engine", ["threads", "pool", "loop"])


class Slow(Service):
    """The reply to ``hang`` comes when `go_on` is set."""

    framing = Lines(limit=1000)

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.log: list[str] = []

    def start(self) -> None:
        self.log.append("start")

    def close(self) -> None:
        self.log.append("close")
        self.go_on.set()

    def query(self, line: bytes) -> bytes:
        self.log.append("query")
        if line == b"fail":
            raise LookupError(line)
        assert self.go_on.wait(20)
        return b"later " + line

    def respond(self, line: bytes) -> Reply:
        if line == b"now":
            return line
        try:
            return self.submit(self.query, line)
        except queue.Full:
            return b"busy"


class SlowTalk(Slow):
    def talk(self, peer: Peer) -> Talk:
        line = yield None
        while line != b"last":
            line = yield super().respond(line)
        return self.submit(self.query, line)


class Coroutine(Slow):
    async def respond(self, line: bytes) -> bytes:
        if line == b"fail":
            raise LookupError(line)
        while not self.go_on.is_set():
            await asyncio.sleep(0.001)
        return b"later " + line


KINDS = pytest.mark.parametrize("kind", [Slow, SlowTalk, Coroutine])


@SHARING
@KINDS
def test_reply_that_comes_later_delays_no_other_peer(engine: str, kind: type[Slow], within: Start) -> None:
    service = kind()
    running = within(engine, Pump.for_service(service))
    with connect(running.address) as slow, connect(running.address) as fast:
        slow.sendall(b"one\ntwo\n")
        if kind is not Coroutine:
            ask(fast, b"now\n", b"now\n")
        service.go_on.set()
        hear(slow, b"later one\nlater two\n")
        ask(fast, b"three\n", b"later three\n")


@ENGINES
@KINDS
def test_exception_in_a_later_reply_ends_the_conversation(engine: str, kind: type[Slow], within: Start) -> None:
    running = within(engine, Pump.for_service(kind()))
    with connect(running.address) as peer:
        peer.sendall(b"fail\n")
        assert hear_all(peer) == b""
        assert access_of(running, name_of(peer))[0] == "failed"
    assert "LookupError" in running.log_line("the service failed")


@ENGINES
def test_last_reply_of_a_talk_may_come_later(engine: str, within: Start) -> None:
    service = SlowTalk()
    running = within(engine, Pump.for_service(service))
    with connect(running.address) as peer:
        peer.sendall(b"last\nignored\n")
        service.go_on.set()
        assert hear_all(peer) == b"later last\n"
        assert access_of(running, name_of(peer))[0] == "finished"


@SHARING
def test_beyond_the_limit_of_calls_the_service_is_busy(engine: str, within: Start) -> None:
    service = Slow()
    service.submit_threads, service.submit_pending = 1, 1
    running = within(engine, Pump.for_service(service))
    with connect(running.address) as called, connect(running.address) as waiting, connect(running.address) as peer:
        called.sendall(b"one\n")
        eventually(lambda: service.log.count("query") == 1)
        waiting.sendall(b"two\n")
        eventually(lambda: service.executor._jobs.qsize() == 1)
        ask(peer, b"three\n", b"busy\n")
        service.go_on.set()
        hear(called, b"later one\n")
        hear(waiting, b"later two\n")


@SHARING
def test_call_of_a_peer_that_left_is_canceled(engine: str, within: Start) -> None:
    service = Slow()
    service.submit_threads = 1
    running = within(engine, Pump.for_service(service))
    with connect(running.address) as first, connect(running.address) as peer:
        first.sendall(b"one\n")
        eventually(lambda: service.log.count("query") == 1)
        peer.sendall(b"two\n")
        eventually(lambda: service.executor._jobs.qsize() == 1)
        name = name_of(peer)
        reset(peer)
        assert access_of(running, name)[0] == "reset"
        service.go_on.set()
        ask(first, b"three\n", b"later one\nlater three\n")
    assert service.log.count("query") == 2


@ENGINES
def test_service_is_started_and_closed_once(engine: str) -> None:
    service = Slow()
    server = stream_server(engine)(("127.0.0.1", 0), Pump.for_service(service))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    service.go_on.set()
    with connect(server.server_address) as peer:
        ask(peer, b"one\n", b"later one\n")
        peer.shutdown(1)
        assert hear_all(peer) == b""
    server.shutdown()
    thread.join()
    server.server_close()
    assert service.log == ["start", "query", "close"]


@ENGINES
def test_periodic_calls_go_on_after_an_exception(engine: str, within: Start) -> None:
    calls: list[int] = []

    class Ticking(Slow):
        def start(self) -> None:
            self.every(0.01, self.tick)

        def tick(self) -> None:
            calls.append(len(calls))
            raise LookupError("only the first one is logged")

    running = within(engine, Pump.for_service(Ticking()), Limits())
    eventually(lambda: len(calls) > 3)
    assert "failures: 1" in running.log_line("Ticking.tick failed")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_interval_of_periodic_calls_is_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match="every: seconds"):
        Slow().every(seconds, print)
