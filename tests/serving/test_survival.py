"""The accept loop cannot be ended by any exception: from a hook, a guard, a handler, a service, the logger."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daemons.serving.daemon import Daemon
from daemons.serving.engines import Threads
from daemons.serving.guards.accept_backoff import CAPACITY, PAUSE, TRANSIENT
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import ask, connect, converse, eventually, is_gone
from tests.serving.running import ROOT, Within
from tests.serving.services import Echo, Failing, Raw

ECHO = Pump.for_service(Echo())


class Server(Threads, StreamServer):
    """Threads, and something goes wrong, twice: what deals with the first time may come to the same place."""

    error: BaseException = RuntimeError("a hook's bug")
    failures = 2

    def fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error


class Verify(Server):
    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.fail()
        return super().verify_request(request, client_address)


class Process(Server):
    def process_request(self, request: Any, client_address: Any) -> None:
        self.fail()
        super().process_request(request, client_address)


class Finish(Server):
    def finish_request(self, request: Any, client_address: Any) -> None:
        self.fail()
        super().finish_request(request, client_address)


class Shutdown(Server):
    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.fail()


class ShutdownOfRefused(Server):
    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.failures

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.fail()


class Close(Server):
    def close_request(self, request: Any) -> None:
        super().close_request(request)
        self.fail()


class Errors(Server):
    def process_request(self, request: Any, client_address: Any) -> None:
        self.fail()
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        raise RuntimeError("a bug in what deals with bugs")


class Access(Server):
    def log_access(self, connection: Any) -> None:
        self.fail()
        super().log_access(connection)


class Actions(Server):
    def service_actions(self) -> None:
        self.fail()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", [Verify, Process, Finish, Shutdown, ShutdownOfRefused, Close, Errors, Access, Actions])
def test_exception_of_a_hook_ends_its_connection_alone(kind: type[Server], within: Callable[..., Within]) -> None:
    running = within(kind, ECHO)
    for _ in range(3):
        converse(running.address, b"a\n")
    eventually(lambda: getattr(running.server, "failures", 0) == 0)
    assert converse(running.address, b"a\n")[0] == b"a\n"
    running.expect_no_connections()


class Get(Server):
    failures = 1

    def get_request(self) -> tuple[Any, Any]:
        self.fail()
        return super().get_request()


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in sorted(CAPACITY | TRANSIENT | {errno.EINVAL})),
        RuntimeError("a bug"),
        TimeoutError(),
    ],
    ids=repr,
)
def test_connection_in_the_queue_is_served_after_any_exception_of_get_request(
    error: Exception, within: Callable[..., Within]
) -> None:
    running = within(type("Got", (Get,), {"error": error}), ECHO)
    assert converse(running.address, b"a\n")[0] == b"a\n"
    if isinstance(error, OSError) and error.errno in CAPACITY:
        assert running.log_line("accept: ") == f"accept: {error.strerror}; pausing for 100 ms"
    elif isinstance(error, OSError) and error.errno in TRANSIENT:
        assert [line for line in running.lines if "accept" in line] == []
    else:
        assert type(error).__name__ in running.log_line("accept: failed; pausing for 100 ms")


@pytest.mark.parametrize("number", sorted(CAPACITY | TRANSIENT | {errno.EINVAL}), ids=errno.errorcode.get)
def test_accept_pauses_after_an_error_unless_it_concerns_one_connection(number: int) -> None:
    with Get(("127.0.0.1", 0), ECHO) as server:
        server.error = OSError(number, os.strerror(number))
        assert server.accept() is False
        assert (0 < server.wait() <= PAUSE) is (number not in TRANSIENT)


class Wrapping(Server):
    """Gives back another socket than the one accepted, as a server with TLS does: at first in vain."""

    failures = 1

    def get_request(self) -> tuple[Any, Any]:
        request, client_address = super().get_request()
        try:
            self.fail()
        except BaseException:
            request.close()
            raise
        return socket.socket(fileno=request.detach()), client_address


def test_failed_get_request_leaves_no_place_taken(within: Callable[..., Within]) -> None:
    running = within(Wrapping, ECHO)
    with connect(running.address) as peer:
        assert is_gone(peer)
    assert converse(running.address, b"a\n")[0] == b"a\n"
    running.expect_no_connections()


def test_exception_of_a_handler_ends_its_connection_alone(within: Callable[..., Within]) -> None:
    running = within("threads", Raw)
    with connect(running.address) as other:
        ask(other, b"a\n", b"A\n")
        assert converse(running.address, b"fail\n")[0] == b""
        assert "a secret of the handler" in running.log_line(": the conversation failed")
        assert converse(running.address, b"exit\n")[0] == b""
        ask(other, b"b\n", b"B\n")


# --- the logger ------------------------------------------------------------------------------------


@pytest.fixture
def broken_logger() -> Iterator[None]:
    """Every call of a logger of the suite raises, as with a bug in a custom filter."""

    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("the logger is broken")

    log, broken = logging.getLogger("daemons"), Broken()
    log.addHandler(broken)
    yield
    log.removeHandler(broken)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("broken_logger")
@pytest.mark.parametrize("kind", [Server, Verify, Process, Finish, Get, Access, Actions, Errors])
def test_a_logger_that_raises_ends_nothing(kind: type[Server], within: Callable[..., Within]) -> None:
    running = within(kind, Pump.for_service(Failing()))
    for words in (b"a\n", b"a\n", b"fail\n"):
        converse(running.address, words)
    assert converse(running.address, b"a\n")[0] == b"a\n"
    running.expect_no_connections()


@pytest.mark.usefixtures("broken_logger")
def test_logger_that_raises_does_not_keep_the_server_from_stopping() -> None:
    with Server(("127.0.0.1", 0), ECHO) as server:
        daemon = Daemon([server])
        daemon.stop()
        daemon.serve_forever()


# --- out of descriptors ----------------------------------------------------------------------------

SCRIPT = """
import logging, resource, sys
from daemons.serving.engines import stream_server
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from tests.serving.services import Echo

class Server(stream_server(sys.argv[1])):
    def get_request(self):
        try:
            return super().get_request()
        except BlockingIOError:
            raise
        except OSError as error:
            print("attempt:", error.strerror, flush=True)
            raise

logging.basicConfig(stream=sys.stdout, format="%(message)s")
with Server(("127.0.0.1", 0), Pump.for_service(Echo())) as server:
    server.limits = Limits(max_connections=1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_accept_pauses_without_descriptors_and_then_serves_the_queue(engine: str) -> None:
    """Promise 4: "Out of descriptors (limit 64): the loop rests and retries, one log line a pause".  How much of a
    processor that takes is counted: an attempt for each pause, where the stock class makes 222,000 a second."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 200
    command = [sys.executable, "-c", SCRIPT, engine]
    script = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert script.stdout is not None
    peers: list[socket.socket] = []
    try:
        address = ("127.0.0.1", int(script.stdout.readline()))
        begun = time.monotonic()
        peers += [connect(address) for _ in range(100)]
        for peer in peers[:40]:
            ask(peer, b"a\n", b"a\n")
        said = [script.stdout.readline() for _ in range(10)]
        for peer in peers[:60]:
            peer.close()
        for peer in peers[60:]:
            ask(peer, b"a\n", b"a\n")
    finally:
        for peer in peers:
            peer.close()
        script.kill()
        out, err = script.communicate()
    pauses = (time.monotonic() - begun) / PAUSE
    said += out.splitlines(keepends=True)
    assert err == b""
    attempts = said[::2]
    assert set(attempts) == {b"attempt: Too many open files\n"}
    assert said[1::2] == [b"accept: Too many open files; pausing for 100 ms\n"] * len(attempts)
    assert 5 <= len(attempts) <= pauses + 1
