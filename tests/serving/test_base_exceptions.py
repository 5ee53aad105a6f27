"""Exceptions that are no `Exception`, raised by a service or a handler, cost their own connection alone; those of a
signal handler end the server."""

from __future__ import annotations

import asyncio
import signal
import socketserver
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daemons import Peer, Service, Talk
from daemons.serving.pump import Pump
from tests.serving.conftest import ENGINES
from tests.serving.peers import ask, connect, converse
from tests.serving.running import ROOT, Within
from tests.serving.services import LINE, conversation
from tests.serving.test_survival import Server

ERRORS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, BaseException)


def fail(line: bytes) -> bytes:
    """Return `line`, or raise the exception whose name it is."""
    for kind in ERRORS:
        if line.strip() == kind.__name__.encode():
            raise kind
    return line


class InRespond(Service):
    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return fail(line)


class InTalk(Service):
    framing = LINE

    def talk(self, peer: Peer) -> Talk:
        reply = b""
        while True:
            reply = fail((yield reply))


class InPieces(Service):
    framing = LINE

    def respond(self, line: bytes) -> Iterator[bytes]:
        yield fail(line)


class InFinally(Service):
    """The exception is raised when the connection has ended."""

    framing = LINE

    def talk(self, peer: Peer) -> Talk:
        line = b""
        try:
            while True:
                line = yield line + b"!" if line else b""
        finally:
            fail(line)


class RawHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(fail(line))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@pytest.mark.parametrize("engine", ENGINES)
def test_base_exception_of_a_service_ends_its_connection_alone(
    engine: str, error: type[BaseException], within: Callable[..., Within]
) -> None:
    word = error.__name__.encode() + b"\n"
    for kind in (InRespond, InTalk, InPieces):
        running = within(engine, Pump.for_service(kind()))
        for _ in range(20):  # more often than a pool has threads
            assert converse(running.address, word)[0] == b""
        if engine != "forks":  # there it is in the child's log
            assert error.__name__ in running.log_line(": the service failed")
        assert converse(running.address, b"a\n")[0] == b"a\n"
        running.expect_no_connections()


@pytest.mark.parametrize("engine", ENGINES)
def test_base_exception_at_the_end_of_a_talk_ends_its_connection_alone(
    engine: str, within: Callable[..., Within]
) -> None:
    running = within(engine, Pump.for_service(InFinally()))
    for error in (KeyboardInterrupt, SystemExit):
        word = error.__name__.encode() + b"\n"
        assert converse(running.address, word)[0].endswith(b"!")
    assert converse(running.address, b"a\n")[0] == b"a\n!"
    running.expect_no_connections()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "loop"])
def test_base_exception_of_a_raw_handler_ends_its_connection_alone(
    engine: str, error: type[BaseException], within: Callable[..., Within]
) -> None:
    running = within(engine, RawHandler)
    for _ in range(20):
        assert converse(running.address, error.__name__.encode() + b"\n")[0] == b""
    if engine != "forks":  # there it is in the child's log
        assert error.__name__ in running.log_line(": the conversation failed")
    assert converse(running.address, b"a\n")[0] == b"a\n"
    running.expect_no_connections()


@pytest.mark.parametrize("hook", ["get_request", "verify_request", "process_request", "log_access", "service_actions"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_base_exception_of_a_hook_does_not_end_the_loop(
    hook: str, error: type[BaseException], within: Callable[..., Within]
) -> None:
    def failing(self: Any, *arguments: Any) -> Any:
        self.fail()
        return getattr(super(kind, self), hook)(*arguments)

    kind = type("Failing", (Server,), {hook: failing, "error": error("a bug of a hook")})
    running = within(kind, Pump.for_service(InRespond()))
    for _ in range(3):
        converse(running.address, b"a\n")
    with connect(running.address) as peer:
        ask(peer, b"a\n", b"a\n")
    running.expect_no_connections()


def test_failure_at_a_repeated_message_is_recorded() -> None:
    """Through `ServiceBinding.respond_if_known`, which is called for an input that is in the cache."""
    asked: list[bytes] = []

    def respond(line: bytes) -> bytes:
        asked.append(line)
        if len(asked) > 1:
            raise KeyboardInterrupt
        return line

    talk = conversation(respond=respond)
    assert talk.receive(b"a\n") == b"a\n"
    assert talk.receive(b"a\n") == b"sorry\n"
    assert isinstance(talk.failure, KeyboardInterrupt)


#: A server in the main thread of a program that has handlers of its own, or Python's.
SCRIPT = """
import functools, logging, signal, sys
from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from tests.serving.test_base_exceptions import InRespond

class Slow(InRespond):
    def respond(self, line):
        if line == b"slow\\n":
            print("slow", flush=True)
            while True:
                pass
        return super().respond(line)

def leave(number, frame):
    sys.exit(7)

signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGUSR1, functools.partial(leave))
with stream_server(sys.argv[1])(("127.0.0.1", 0), Pump.for_service(Slow())) as server:
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(5)
"""


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 5), (signal.SIGTERM, 7), (signal.SIGUSR1, 7)])
def test_exception_of_a_signal_handler_ends_the_server(number: signal.Signals, code: int, slow: bool) -> None:
    command = [sys.executable, "-c", SCRIPT, "loop"]
    script = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert script.stdout is not None
        address = ("127.0.0.1", int(script.stdout.readline()))
        for word in (b"KeyboardInterrupt\n", b"SystemExit\n"):
            assert converse(address, word)[0] == b""
        with connect(address) as peer:
            ask(peer, b"a\n", b"a\n")
            if slow:
                peer.sendall(b"slow\n")
                assert script.stdout.readline() == b"slow\n"
            script.send_signal(number)
            assert script.wait(20) == code
    finally:
        script.kill()
        script.communicate()
