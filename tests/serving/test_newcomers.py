"""New connections without a message when a drain begins."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from daemons import Service
from daemons.serving import connection
from daemons.serving.daemon import Daemon
from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import ask, connect, eventually, hear, is_gone
from tests.serving.services import Echo, Polite

Patience = Callable[[float], None]

each_engine = pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Says how many seconds newcomers have."""

    def change(seconds: float) -> None:
        monkeypatch.setattr(connection, "GRACE", seconds)

    return change


class Stopping:
    """A daemon in a thread; `stop` begins the drain, and it must end by itself."""

    def __init__(self, engine: str, service: Service) -> None:
        self.server: StreamServer = stream_server(engine)(("127.0.0.1", 0), Pump.for_service(service))
        self.address = self.server.server_address
        self._daemon = Daemon([self.server])

    def stop(self) -> None:
        eventually(lambda: self.server.active == 1)
        self._daemon._waker.writer.send(bytes((signal.SIGTERM,)))
        eventually(lambda: self.server.draining)

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._daemon.serve_forever)
        thread.start()
        try:
            yield
            eventually(lambda: not thread.is_alive())
        finally:
            self._daemon.shutdown()
            thread.join()
            self.server.server_close()


@each_engine
def test_first_request_in_flight_is_answered_during_a_drain(engine: str, patience: Patience) -> None:
    patience(3600.0)
    daemon = Stopping(engine, Echo())
    with daemon.running(), connect(daemon.address) as peer:
        daemon.stop()
        ask(peer, b"a\n", b"a\n")
        assert is_gone(peer)


@each_engine
def test_peer_may_answer_the_greeting_during_a_drain(engine: str, patience: Patience) -> None:
    patience(3600.0)
    daemon = Stopping(engine, Polite())
    with daemon.running(), connect(daemon.address) as peer:
        hear(peer, b"hello\n")
        daemon.stop()
        ask(peer, b"a\n", b"1\n")
        assert is_gone(peer)


@each_engine
def test_silent_peer_delays_a_drain_for_the_grace_period_only(engine: str, patience: Patience) -> None:
    patience(0.1)
    daemon = Stopping(engine, Echo())
    with daemon.running(), connect(daemon.address) as peer:
        daemon.stop()
        assert is_gone(peer)


@each_engine
def test_peer_that_leaves_does_not_delay_a_drain(engine: str, patience: Patience) -> None:
    patience(3600.0)
    daemon = Stopping(engine, Echo())
    with daemon.running(), connect(daemon.address):
        daemon.stop()


@each_engine
def test_idle_peer_with_an_earlier_request_has_no_grace_period(engine: str, patience: Patience) -> None:
    patience(3600.0)
    daemon = Stopping(engine, Echo())
    with daemon.running(), connect(daemon.address) as peer:
        ask(peer, b"a\n", b"a\n")
        daemon.stop()
        assert is_gone(peer)
