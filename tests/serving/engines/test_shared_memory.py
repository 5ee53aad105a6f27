"""Services whose peers share memory: threads need a lock, and several processes are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from daemons import Service
from daemons.operating.loading.targets import target_of
from daemons.serving.pump import Pump
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder
from tests.serving.peers import ask, connect, converse
from tests.serving.running import Within
from tests.serving.services import LINE

VISITORS, TIMES = 50, 40


class Counter(Service):
    """How often it has been asked, by anybody."""

    framing = LINE
    shares = True

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self._count = 0
        self._lock = threading.Lock()

    def respond(self, line: bytes) -> bytes:
        if line != b"tell\n":
            with self._lock:
                self._count += 1
        return b"%d\n" % self._count


@pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])
def test_fifty_concurrent_peers_count_to_the_exact_total(engine: str, within: Callable[..., Within]) -> None:
    running = within(engine, Pump.for_service(Counter()))

    def visit() -> None:
        with connect(running.address) as peer:
            for _ in range(TIMES):
                peer.sendall(b"count\n")
                while not peer.recv(64).endswith(b"\n"):
                    pass

    visitors = [threading.Thread(target=visit) for _ in range(VISITORS)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert converse(running.address, b"tell\n")[0] == b"%d\n" % (VISITORS * TIMES)
    with connect(running.address) as peer:
        ask(peer, b"count\n", b"%d\n" % (VISITORS * TIMES + 1))


@pytest.mark.parametrize("more", ["engine = forks", "processes = 2"])
def test_service_with_shared_memory_is_refused_with_several_processes(tmp_path: Path, more: str) -> None:
    folder = Folder(tmp_path)
    folder.write("x", f"[daemon]\nservice = {__name__}:Counter\nport = 1\n{more}\n")
    with pytest.raises(ConfigurationError, match="a service whose peers share memory needs one process"):
        target_of(folder.read()).request_handlers()
