"""`upstream_requests` under ``engine = forks``: one limit for all child processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from struct import Struct
from threading import Event

import pytest

from daemons.serving.engines.forks import Forks
from daemons.serving.pump import Pump
from daemons.web.gateway import request_table
from daemons.web.gateway.upstream_address import UPSTREAM
from tests.serving.peers import eventually, hear_all
from tests.serving.running import Within
from tests.web.example_site import make, service
from tests.web.gateway.test_upstream import Slow, get, refused
from tests.web.talking import responses


@pytest.fixture
def may_answer() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


def status_of(peer: socket.socket) -> int:
    (found,) = responses(hear_all(peer))
    return found.status


def test_children_share_one_limit_and_a_killed_child_does_not_count(tmp_path: Path, may_answer: Event) -> None:
    server = Within("threads", type("FreshSlow", (Slow,), {"may_answer": may_answer}))
    proxy = {"/app": UPSTREAM.parse("{}:{}".format(*server.address))}
    httpd = service(make(tmp_path), proxy=proxy, upstream_requests=3)
    running = Within("forks", Pump.for_service(httpd))
    assert isinstance(running.server, Forks)
    children = running.server.children
    try:
        with closing(httpd), ExitStack() as stack:
            waiting = [get(running.address, "/app/slow", stack) for _ in range(12)]
            eventually(lambda: len(refused(waiting)) == 12 - 3)
            assert status_of(get(running.address, "/app/quick", stack)) == 503
            for peer in refused(waiting):
                waiting.remove(peer)
                peer.close()
            eventually(lambda: len(children) == 3)
            for pid in list(children):
                os.kill(pid, signal.SIGKILL)
            for peer in waiting:
                assert hear_all(peer) == b""
            waiting = [get(running.address, "/app/slow", stack) for _ in range(4)]
            eventually(lambda: len(refused(waiting)) == 1)
            may_answer.set()
            assert sorted(map(status_of, waiting)) == [200, 200, 200, 503]
            assert status_of(get(running.address, "/app/quick", stack)) == 200
        lines = [line for line in running.lines if "requests refused" in line]
        assert len(lines) < 5, "one line a second, and not one for each"
    finally:
        running.close()
        server.close()


def test_full_request_table_takes_no_more_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_table, "PLACES", 2)
    monkeypatch.setattr(request_table, "_WORDS", Struct("=2d"))
    table = request_table.RequestTable()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            first, second, third = table.take(), table.take(), table.take()
            assert first is not None
            table.release(first)
            os._exit(0 if (first, second, third, table.take()) == (0, 1, None, 0) else 1)
        os._exit(2)
    table.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
