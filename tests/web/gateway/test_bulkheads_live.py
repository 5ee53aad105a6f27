"""The circuit breaker of a front that runs as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemons.operating.metrics.stats import Figures, read
from daemons.web.gateway.circuit_breaker import FAILURES
from tests.operating.folder import Folder
from tests.operating.live import Live, until
from tests.promises.crowds import address_of
from tests.serving.peers import connect, eventually
from tests.web.example_site import request
from tests.web.gateway.test_bulkheads import Silent, faulty, fetch

INI = """\
[daemon]
service = httpd
port = 0
[httpd]
root = www
[proxy]
/app = {server}
"""


@contextmanager
def front(path: Path, server: str, *arguments: str) -> Iterator[Live]:
    folder = Folder(path)
    (path / "www").mkdir()
    (path / "www" / "text.txt").write_text("text")
    folder.write("front", INI.format(server=server))
    with Live(path, "front", *arguments) as daemon:
        yield daemon


def figures(path: Path) -> Figures:
    return read(path / "run" / "front.metrics")


@pytest.mark.parametrize("engine", ["threads", "pool", "forks"])
def test_stats_report_open_circuit_breakers(tmp_path: Path, engine: str) -> None:
    server = tmp_path / "server"
    with faulty("refusing", server) as recovered, front(tmp_path, f"unix:{server}", "--engine", engine) as daemon:
        address = address_of(daemon)
        eventually(lambda: fetch(address, "/app").status == 503)
        until(lambda: (figures(tmp_path).breakers_open, figures(tmp_path).breakers_opened) == (1, 1), "an open one")
        assert fetch(address, "/text.txt").status == 200
        recovered.set()
        eventually(lambda: fetch(address, "/app").status == 200)
        until(lambda: figures(tmp_path).breakers_open == 0, "none that is open")
        assert figures(tmp_path).breakers_opened == 1
        until(lambda: "circuit breaker closed: the server responds" in daemon.out, "a line in the log")
        assert daemon.out.count("circuit breaker open after 5 failures in a row") == 1


def test_each_worker_has_its_own_circuit_breaker(tmp_path: Path) -> None:
    server = tmp_path / "server"
    arguments = ("--engine", "threads", "--set", "daemon.processes=2")
    with faulty("refusing", server), front(tmp_path, f"unix:{server}", *arguments) as daemon:
        address = address_of(daemon)
        until(lambda: len(workers(tmp_path)) == 2, "two workers")
        for number, stopped in enumerate(workers(tmp_path), 1):
            # The other one accepts all connections.
            os.kill(stopped, signal.SIGSTOP)
            try:
                statuses = {fetch(address, "/app").status for _ in range(FAILURES)}
                assert statuses == {502}, "the breaker of this worker is closed at first"
                until(lambda number=number: figures(tmp_path).breakers_open == number, "its breaker is open")  # type: ignore[misc]
            finally:
                os.kill(stopped, signal.SIGCONT)


def workers(path: Path) -> list[int]:
    return [each.pid for each in figures(path).processes if each.role == "worker"]


def test_client_that_resets_gives_its_place_back_under_forks(tmp_path: Path) -> None:
    silent = Silent()
    with silent.running() as server:
        arguments = ("--engine", "forks", "--set", "httpd.upstream_requests=1")
        with front(tmp_path, server, *arguments) as daemon:
            address = address_of(daemon)
            for number in range(1, 4):
                with connect(address) as client:
                    client.sendall(request("/app/silent"))
                    eventually(lambda number=number: len(silent.received) == number)  # type: ignore[misc]
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                eventually(lambda: fetch(address, "/app/quick").status == 200)
