"""SIGHUP with several processes: workers are replaced one by one, and their number stays the same."""

from __future__ import annotations

import os
import signal

import pytest

from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, children, talk, until

#: A service that can be tried, and then, while there is a gate, waits for that to be opened when it is imported.
GATED = """
    import os
    import daemons

    if os.path.exists("gate"):
        try:
            os.mkdir("tried")
        except FileExistsError:
            os.close(os.open("gate", os.O_RDONLY))

    class Gated(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, message):
            return b"."
"""


def renewed(daemon: Live, old: set[int]) -> bool:
    """Return whether the number of workers is right, and none of the `old` ones is left."""
    now = set(children(daemon.process.pid))
    return len(now) == int(daemon.ready["processes"]) and not now & old


def hang_up(daemon: Live) -> None:
    """Send SIGHUP, and wait until it is handled."""
    before = daemon.out.count(" reloaded; ")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.out.count(" reloaded; ") > before, "the reload")


@pytest.mark.parametrize("processes", ["2", "4"])
def test_a_sighup_during_a_renewal_leaves_no_worker_too_many(folder: Folder, processes: str) -> None:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    with Live(folder.path, "launcelot", "--processes", processes) as daemon:
        old = set(children(daemon.process.pid))
        for _ in range(5):
            hang_up(daemon)
            assert talk(daemon.port) == GRAIL
        until(lambda: renewed(daemon, old), "as many workers as before")
        assert "died" not in daemon.out


def test_an_old_worker_that_dies_while_its_successor_starts_has_no_second_one(folder: Folder) -> None:
    folder.module("gated", GATED)
    folder.write("x", "[daemon]\nservice = gated:Gated\nport = 0\nprocesses = 2\n")
    with Live(folder.path, "x") as daemon:
        old = children(daemon.process.pid)
        os.mkfifo(folder.path / "gate")
        hang_up(daemon)
        until(lambda: len(children(daemon.process.pid)) == 3, "the successor of the first")
        os.kill(old[0], signal.SIGKILL)
        until(lambda: " died" in daemon.out, "its death")
        # While the FIFO is open for reading and writing, no process blocks when it opens the FIFO.
        gate = os.open(folder.path / "gate", os.O_RDWR)
        try:
            until(lambda: renewed(daemon, set(old)), "two new workers")
        finally:
            os.close(gate)
        assert f"worker {old[0]} died; its successor is starting already" in daemon.out
        assert "starting a replacement" not in daemon.out
