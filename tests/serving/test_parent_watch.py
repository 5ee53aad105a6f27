"""A daemon ends when its parent process has ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from daemons.serving.daemon import Daemon
from daemons.serving.engines import Threads
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import DEADLINE
from tests.serving.services import Echo


class Server(Threads, StreamServer):
    pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Pump.for_service(Echo())) as server:
        yield server


def ends(daemon: Daemon) -> bool:
    thread = threading.Thread(target=daemon.serve_forever)
    thread.start()
    thread.join(DEADLINE)
    try:
        return not thread.is_alive()
    finally:
        daemon.shutdown()
        thread.join()


def test_daemon_ends_when_its_parent_has_ended(server: Server) -> None:
    not_our_parent = os.getpid()
    called: list[bool] = []
    daemon = Daemon([server], parent=not_our_parent)
    daemon.on_orphaned.append(lambda: called.append(True))
    assert ends(daemon)
    assert called == [True]


def test_daemon_ends_when_the_other_end_of_its_lifeline_is_closed(server: Server) -> None:
    lifeline, parents_end = os.pipe()
    try:
        daemon = Daemon([server])
        daemon.watch_lifeline(lifeline)
        os.close(parents_end)
        assert ends(daemon)
    finally:
        os.close(lifeline)
