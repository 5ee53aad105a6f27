"""When a server is not polled: after an accept that failed, and while its rate is used up."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemons.operating.metrics.stats import read
from daemons.serving.guards.accept_backoff import AcceptBackoff
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, QUEST, Live, until
from tests.promises.crowds import address_of, settings
from tests.serving.peers import connect, eventually, hear
from tests.serving.services import Echo


def test_each_pause_is_counted_once_and_few_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    rest = AcceptBackoff()
    pauses: list[int] = []
    rest.on_pause = lambda: pauses.append(1)
    rate = 1000.0
    assert rest.wait(rate) == 0.0
    for number in range(1, 6):
        for _ in range(2000):
            rest.count()
        assert rest.wait(rate) > 0.0
        assert rest.wait(rate) > 0.0
        assert len(pauses) == number
        eventually(lambda: rest.wait(rate) == 0.0)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("accept: max_rate of 1000 per second reached; ")


def test_connections_accepted_under_another_rate_do_not_count() -> None:
    server = StreamServer(("127.0.0.1", 0), Pump.for_service(Echo()))
    with server:
        server.apply(Limits(max_rate=1.0))
        assert server.wait() == 0.0
        server.apply(Limits())
        for _ in range(10_000):
            server.backoff.count()
        server.apply(Limits(max_rate=1.0))
        assert server.wait() == 0.0
        server.backoff.count()
        assert 0.0 < server.wait() <= 1.0
        server.apply(Limits(max_rate=1.0, idle_timeout=1.0))
        assert server.wait() > 0.0


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_stats_and_the_log_report_a_rate_that_is_reached(tmp_path: Path, engine: str) -> None:
    folder = Folder(tmp_path)
    folder.write("launcelot", GOOD.replace("1060", "0"))
    with Live(folder.path, "launcelot", "--engine", engine, *settings(max_rate="4/s")) as daemon:
        for _ in range(6):
            with connect(address_of(daemon)) as peer:
                peer.sendall(QUEST)
                hear(peer, GRAIL)
        until(lambda: read(folder.path / "run" / "launcelot.metrics").rate_pauses > 0, "a pause")
        until(lambda: "max_rate of 4 per second reached" in daemon.out, "a line in the log")
