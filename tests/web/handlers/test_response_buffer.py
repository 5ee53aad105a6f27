"""Bounds of a handler's output before it is sent: `[limits] response`, and a peer that has left."""

from __future__ import annotations

import os
import re
import resource
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from daemons.serving.engines import stream_server
from daemons.serving.guards import budget
from daemons.serving.guards.limits import Limits
from daemons.web.handlers import response_buffer, response_parts
from daemons.web.handlers.response_buffer import Bounds, ResponseBuffer, ResponseTooLarge
from daemons.web.handlers.server import WebServer
from daemons.web.site import unnamed_file
from tests.serving.peers import connect, converse, hear_all, name_of, reset
from tests.serving.running import Process, Within, access_of
from tests.web import endless
from tests.web.endless import LARGE, Endless, begun, may_write, raised, write_without_end
from tests.web.talking import get, responses
from tests.web.wsgi_talking import carried

MIB = 1024**2

each_engine = pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    begun.clear()
    may_write.set()
    before = open_files()
    yield
    assert raised.empty()
    assert open_files() == before


def open_files() -> int:
    """Return the number of unnamed files that this process has open."""
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(os.path.islink(link) and os.readlink(link).endswith(" (deleted)") for link in links)


@pytest.fixture(params=["handler", "application"])
def serve(request: pytest.FixtureRequest, within: Callable[..., Within]) -> Callable[..., Within]:
    """Start a server of the handler or of the application in this process."""

    def start(engine: str, **limits: Any) -> Within:
        handler = Endless if request.param == "handler" else carried(endless.application)
        return within(stream_server(engine, WebServer), handler, Limits(**limits))

    return start


@each_engine
def test_writing_beyond_the_limit_raises_and_the_daemon_goes_on(engine: str, serve: Callable[..., Within]) -> None:
    running = serve(engine, response=MIB)
    for path in ("/endless", "/stubborn"):
        heard, name = converse(running.address, get(path))
        (response,) = responses(heard)
        assert (response.status, response.body) == (500, b"500 Internal Server Error\n")
        assert access_of(running, name)[0] == "failed"
        line = running.log_line(f"{name}: the service failed")
        assert "ResponseTooLarge: more than [limits] response, 1MiB, was written" in line
        for _ in range(100 if path == "/stubborn" else 1):
            assert type(raised.get(timeout=20)) is ResponseTooLarge
    heard, _ = converse(running.address, get("/hello"))
    assert responses(heard)[0].body == b"hello"


@each_engine
def test_writing_to_a_peer_that_has_reset_raises_broken_pipe(engine: str, serve: Callable[..., Within]) -> None:
    running = serve(engine)
    for path in ("/endless", "/stubborn"):
        may_write.clear()
        begun.clear()
        peer = connect(running.address)
        name = name_of(peer)
        peer.sendall(get(path))
        assert begun.wait(20)
        reset(peer)
        may_write.set()
        assert access_of(running, name)[0] == "reset"
        for _ in range(100 if path == "/stubborn" else 1):
            assert type(raised.get(timeout=20)) is BrokenPipeError
        assert not any("failed" in line for line in running.lines)


@each_engine
@pytest.mark.parametrize("path", ["/silent", "/silent_later"])
def test_application_that_yields_empty_pieces_ends_when_the_peer_disconnects(
    engine: str, path: str, within: Callable[..., Within]
) -> None:
    """Empty pieces are not sent, so no failing send reveals the disconnection."""
    running = within(stream_server(engine, WebServer), carried(endless.application))
    peer = connect(running.address)
    name = name_of(peer)
    peer.sendall(get(path))
    assert begun.wait(20)
    if engine != "one":
        heard, _ = converse(running.address, get("/hello"))
        assert responses(heard)[0].body == b"hello"
    reset(peer)
    assert access_of(running, name)[0] == "reset"
    assert not [line for line in running.lines if "the application yields empty pieces" in line]


def test_half_closed_peer_gets_the_whole_response(serve: Callable[..., Within]) -> None:
    running = serve("threads")
    may_write.clear()
    with connect(running.address) as peer:
        peer.sendall(get("/large"))
        assert begun.wait(20)
        peer.shutdown(socket.SHUT_WR)
        may_write.set()
        (response,) = responses(hear_all(peer))
    assert (response.status, len(response.body)) == (200, LARGE)


@each_engine
def test_slow_writer_ends_after_the_peer_disconnects(
    engine: str, serve: Callable[..., Within], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that writes a line from time to time, as an event stream does."""
    monkeypatch.setattr(response_buffer, "CHECK_INTERVAL", 0.0)
    monkeypatch.setattr(endless, "BLOCK", b"a line\n")
    running = serve(engine, write_timeout=0.2)
    may_write.clear()
    with connect(running.address) as peer:
        name = name_of(peer)
        peer.sendall(get("/endless"))
        assert begun.wait(20)
    may_write.set()
    assert type(raised.get(timeout=20)) is BrokenPipeError
    assert access_of(running, name)[0] == "reset"


@pytest.mark.parametrize("engine", ["threads", "forks", "pool", "loop"])
def test_endless_handler_does_not_keep_a_daemon_from_stopping(engine: str, process: Callable[..., Process]) -> None:
    running = process(
        "tests.web.endless:Endless", engine, "limits.response=16MiB", "limits.drain_timeout=5s", key="handler"
    )
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(running.address)).sendall(get("/endless"))
        running.log_line("ResponseTooLarge")
        running.close()


def test_every_write_after_a_failure_raises_and_buffers_nothing() -> None:
    written = ResponseBuffer(Bounds(1000))
    assert written.write(b"x" * 1000) == 1000
    for _ in range(2):
        with pytest.raises(ResponseTooLarge):
            written.write(b"y")
    assert (written.content(), written._descriptors) == ([], [])
    spilled = ResponseBuffer(Bounds(response_buffer.SPILL * 3))
    with pytest.raises(ResponseTooLarge):
        write_without_end(spilled.write)
    assert type(raised.get()) is ResponseTooLarge
    assert (spilled.content(), spilled._descriptors) == ([], [])


def test_response_is_not_sent_after_a_full_disk() -> None:
    """Even if the handler catches the exception and goes on: the response would have a gap."""
    written = ResponseBuffer()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (response_buffer.SPILL // 2, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            written.write(b"a" * (response_buffer.SPILL + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for _ in range(2):
        with pytest.raises(OSError, match="File too large"):
            written.write(b"b" * 10)
    assert (written.content(), written._descriptors) == ([], [])
    assert isinstance(written.failure, OSError)


def test_slow_writer_gets_broken_pipe_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_buffer, "CHECK_INTERVAL", 0.0)
    written = ResponseBuffer(Bounds(MIB, lambda: True))
    with pytest.raises(BrokenPipeError):
        written.writelines([b"a line\n"] * 4)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/socket", 500),
        ("/lines", 500),
        ("/headers_without_end", 500),
        ("/flushed_headers_without_end", 500),
        ("/empty", 200),
    ],
)
def test_every_way_of_writing_is_limited(path: str, status: int, within: Callable[..., Within]) -> None:
    running = within(stream_server("loop", WebServer), Endless, Limits(response=MIB))
    heard, _ = converse(running.address, get(path))
    assert responses(heard)[0].status == status
    while not raised.empty():
        assert type(raised.get()) is ResponseTooLarge


def test_files_beyond_a_few_are_copied(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * (response_parts.PIECE + 1))
    written = ResponseBuffer()
    with open(tmp_path / "long", "rb") as source:
        taken = 0
        while written.write_file(source):
            taken += 1
            assert taken < 100
    assert taken == response_buffer.MOST_FILES + 1
    written.discard()


def test_without_a_temporary_folder_long_responses_are_kept_in_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, within: Callable[..., Within]
) -> None:
    """As with a read-only root file system."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(unnamed_file, "_warned", False)
    running = within(stream_server("loop", WebServer), Endless)
    for _ in range(2):
        heard, _ = converse(running.address, get("/large"))
        (response,) = responses(heard)
        assert (response.status, len(response.body)) == (200, LARGE)
    assert budget.PROCESS.held == 0
    monkeypatch.setattr(budget.PROCESS, "limit", LARGE // 2)
    heard, name = converse(running.address, get("/large"))
    assert responses(heard)[0].status == 500
    assert "[limits] held has no room" in running.log_line(f"{name}: the service failed")
    assert budget.PROCESS.held == 0
    (line,) = [line for line in running.lines if "no folder for temporary" in line]
    assert re.search(r"no folder for temporary files \(no such file or directory\): .*; set TMPDIR", line)
