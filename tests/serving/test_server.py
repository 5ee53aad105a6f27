"""A StreamServer without a daemon around it: everything a stock server does, it does."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemons.serving.engines import Forks, One, Threads, stream_server
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import DEADLINE, ask, connect, converse, eventually, hear, hear_all, is_gone, name_of
from tests.serving.running import ROOT, Within, access_of
from tests.serving.services import Echo, Failing


class MyServer(Threads, StreamServer):
    """As an author writes it."""


class MyTCPHandler(socketserver.StreamRequestHandler):
    """From the standard library's documentation of socketserver, but for the print()."""

    def handle(self) -> None:
        self.data = self.rfile.readline(10000).rstrip()
        self.wfile.write(self.data.upper())


ECHO = Pump.for_service(Echo())


@contextmanager
def served(server: StreamServer) -> Iterator[StreamServer]:
    """`server`, as the documentation of socketserver has it served."""
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(DEADLINE)
            assert not thread.is_alive()


@pytest.mark.parametrize("kind", [StreamServer, MyServer, stream_server("one"), stream_server("threads")])
def test_handler_of_the_socketserver_documentation_is_served(kind: type[StreamServer]) -> None:
    with served(kind(("127.0.0.1", 0), MyTCPHandler)) as server, connect(server.server_address) as peer:
        peer.sendall(b"hello world\n")
        assert hear_all(peer) == b"HELLO WORLD"


@pytest.mark.parametrize("kind", [StreamServer, MyServer])
def test_it_can_be_served_again_after_a_shutdown(kind: type[StreamServer]) -> None:
    with kind(("127.0.0.1", 0), ECHO) as server:
        for _ in range(3):
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            assert converse(server.server_address, b"a\n")[0] == b"a\n"
            server.shutdown()
            thread.join(DEADLINE)
            assert not thread.is_alive()


def test_a_shutdown_before_it_is_served_is_not_lost() -> None:
    with MyServer(("127.0.0.1", 0), ECHO) as server:
        server.shutdown()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_a_shutdown_after_it_was_served_returns() -> None:
    with served(MyServer(("127.0.0.1", 0), ECHO)) as server:
        server.shutdown()
    server.shutdown()


def test_a_shutdown_from_the_serving_thread_does_not_wait_for_itself() -> None:
    class Once(StreamServer):
        def service_actions(self) -> None:
            self.shutdown()

    with Once(("127.0.0.1", 0), ECHO) as server:
        server.serve_forever(poll_interval=0.01)


def test_a_shutdown_by_a_handler_in_the_serving_thread_does_not_wait_for_itself() -> None:
    class Last(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.server.shutdown()

    with StreamServer(("127.0.0.1", 0), Last) as server, connect(server.server_address) as peer:
        server.serve_forever()
        assert is_gone(peer)


def test_an_override_of_service_actions_is_called_again_and_again() -> None:
    calls = threading.Semaphore(0)

    class Acting(MyServer):
        def service_actions(self) -> None:
            calls.release()

    server = Acting(("127.0.0.1", 0), ECHO)
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        for _ in range(3):
            assert calls.acquire(timeout=DEADLINE)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", [StreamServer, MyServer])
def test_handle_request_waits_for_one_connection_and_serves_it(kind: type[StreamServer]) -> None:
    with kind(("127.0.0.1", 0), MyTCPHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with connect(server.server_address) as peer:
            peer.sendall(b"hello\n")
            assert hear_all(peer) == b"HELLO"
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_handle_request_under_forks_reaps_the_children() -> None:
    class Forking(Forks, StreamServer):
        pass

    def all_buried() -> bool:
        server.collect_children()
        return not server.children

    with Forking(("127.0.0.1", 0), MyTCPHandler) as server:
        for _ in range(2):
            with connect(server.server_address) as peer:
                peer.sendall(b"hello\n")
                server.handle_request()
                hear(peer, b"HELLO")
        eventually(all_buried)


def test_a_raw_handler_under_the_loop_is_refused_when_the_server_is_made() -> None:
    with pytest.raises(TypeError, match="MyTCPHandler is a raw handler, which blocks on its socket"):
        stream_server("loop")(("127.0.0.1", 0), MyTCPHandler)


def test_handle_request_gives_up_after_its_timeout() -> None:
    class Hasty(StreamServer):
        timeout = 0.01
        gave_up = False

        def handle_timeout(self) -> None:
            self.gave_up = True

    with Hasty(("127.0.0.1", 0), ECHO) as server:
        server.handle_request()
        assert server.gave_up


def test_override_of_verify_request_refuses_connections(within: Callable[..., Within]) -> None:
    class Choosy(MyServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return super().verify_request(request, client_address) and client_address[1] != self.unwanted

        unwanted = 0

    running = within(Choosy, ECHO)
    with socket.socket() as peer:
        peer.settimeout(DEADLINE)
        peer.bind(("127.0.0.1", 0))
        Choosy.unwanted = peer.getsockname()[1]
        peer.connect(running.address)
        assert is_gone(peer)
        assert access_of(running, f"127.0.0.1:{Choosy.unwanted}") == ("refused", "0")
    assert converse(running.address, b"a\n")[0] == b"a\n"


# --- without an engine -----------------------------------------------------------------------------


def test_without_an_engine_a_silent_peer_is_closed_and_the_next_is_served(within: Callable[..., Within]) -> None:
    running = within(StreamServer, ECHO, Limits(idle_timeout=1.0))
    with connect(running.address) as silent:
        assert is_gone(silent)
        assert access_of(running, name_of(silent)) == ("idle", "0")
        assert converse(running.address, b"a\n")[0] == b"a\n"


def test_without_an_engine_a_peer_that_stays_after_the_apology_is_closed(within: Callable[..., Within]) -> None:
    running = within(StreamServer, Pump.for_service(Failing()), Limits(idle_timeout=1.0))
    with connect(running.address) as staying:
        ask(staying, b"fail\n", b"sorry: failed\n")
        assert converse(running.address, b"a\n")[0] == b"a\n"


# --- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [StreamServer, MyServer])
def test_a_unix_socket(kind: type[StreamServer], tmp_path: Path) -> None:
    with served(kind(str(tmp_path / "sock"), ECHO)) as server, connect(server.server_address) as peer:
        ask(peer, b"a\n", b"a\n")
        ask(peer, b"b\n", b"b\n")


def test_an_abstract_unix_socket() -> None:
    server = MyServer(b"\0camelot-test-%d" % id(object()), ECHO)
    with served(server), socket.socket(socket.AF_UNIX) as peer:
        peer.connect(server.server_address)
        ask(peer, b"a\n", b"a\n")


def test_ipv6(within: Callable[..., Within]) -> None:
    running = within("threads", ECHO, address=("::1", 0))
    heard, name = converse(running.address, b"a\n")
    assert heard == b"a\n"
    assert name.startswith("[::1]:")
    assert access_of(running, name) == ("done", "1")


def test_an_adopted_socket_is_served(tmp_path: Path) -> None:
    for listener in (socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)):
        if listener.family == socket.AF_UNIX:
            listener.bind(str(tmp_path / "sock"))
            listener.listen()
        listener.setblocking(False)
        with served(MyServer.adopt(listener, ECHO)) as server:
            assert server.server_address == listener.getsockname()
            with connect(server.server_address) as peer:
                ask(peer, b"a\n", b"a\n")


def test_the_constructor_may_leave_the_binding_to_its_caller() -> None:
    server = MyServer(("127.0.0.1", 0), ECHO, bind_and_activate=False)
    server.server_bind()
    server.server_activate()
    with served(server):
        assert converse(server.server_address, b"a\n")[0] == b"a\n"


# --- closing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [One, Threads])
def test_closing_ends_the_conversations_under_way(kind: type) -> None:
    with served(type("Mine", (kind, StreamServer), {})(("127.0.0.1", 0), ECHO)) as server:
        peer = connect(server.server_address)
        ask(peer, b"a\n", b"a\n")
    with peer:
        assert is_gone(peer)
    eventually(lambda: server.active == 0)


FORKING = """
import signal, sys, threading
from daemons.serving.engines import Forks
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.leaks import Snapshot
from tests.serving.services import Echo

class MyServer(Forks, StreamServer): pass

before = Snapshot.take()
with MyServer(("127.0.0.1", 0), Pump.for_service(Echo())) as server:
    print(server.server_address[1], flush=True)
    {serving}
print(before.leaks())
"""


@pytest.mark.parametrize(
    "serving",
    [
        "threading.Thread(target=lambda: (sys.stdin.readline(), server.shutdown())).start(); server.serve_forever()",
        "server.handle_request(); sys.stdin.readline()",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN); before = Snapshot.take(); "
        "server.handle_request(); sys.stdin.readline()",
    ],
    ids=["serve_forever", "handle_request", "SIGCHLD ignored"],
)
def test_a_forking_server_that_is_closed_leaves_no_child_and_no_descriptor(serving: str) -> None:
    # That it forks with threads is this test's doing, and no fault since 3.12 either: the child runs no code of theirs.
    ignored = "ignore:This process:DeprecationWarning"
    command = [sys.executable, "-X", "dev", "-W", ignored, "-c", FORKING.format(serving=serving)]
    script = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert script.stdout is not None
    with connect(("127.0.0.1", int(script.stdout.readline()))) as peer:
        ask(peer, b"a\n", b"a\n")
        out, err = script.communicate("now\n", DEADLINE)
        assert is_gone(peer)
    assert (out, err) == ("[]\n", "")
