"""Concurrency limits: 10,000 idle connections with half a message keep no honest client waiting.

Of 1,000 honest requests 1,000 are answered under `pool` and `loop`, with at most 160 MiB more memory.  `threads` and
`forks` are limited by `max_connections`, and `max_per_peer` keeps one address from taking all places.  Workers do the
TLS handshake: with 500 silent TLS clients, 1,000 of 1,000 requests are answered."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.operating.folder import GOOD, Folder
from tests.operating.live import Live, until
from tests.promises.crowds import MIB, Crowd, address_of, growth, honest, settings, threads_of
from tests.serving import tls_live
from tests.serving.peers import children_of, eventually, queued
from tests.serving.tls_client import theirs

HALF = b"What is your qu"


@pytest.fixture
def launcelot(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    return folder


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("engine", ["pool", "loop"])
def test_ten_thousand_with_half_a_message_keep_no_honest_one_waiting(launcelot: Folder, engine: str) -> None:
    limits = settings(max_connections=10_500, message_timeout="10m")
    with Live(launcelot.path, "launcelot", "--engine", engine, *limits) as daemon:
        address = address_of(daemon)
        # A reply shows that all earlier connections have been accepted.
        with growth(daemon.process.pid, 160 * MIB):
            with Crowd(address, 10_000, HALF, between=lambda: honest(address, 1)) as crowd:
                assert honest(address) == 1000
                assert crowd.turned_away == 0
            until(lambda: daemon.out.count(" reset messages=0 received=15 ") == 10_000, "a line for each", 60.0)
        assert daemon.stop() == 0
        assert daemon.out.count(" done messages=1 ") == 1000 + 20
        assert "Traceback" not in daemon.out + daemon.err


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize(("engine", "places", "each"), [("threads", 200, 1), ("forks", 40, 50)])
def test_one_address_cannot_take_all_places(launcelot: Folder, engine: str, places: int, each: int) -> None:
    limits = settings(max_connections=places, max_per_peer=places // 2, message_timeout="10m")
    with Live(launcelot.path, "launcelot", "--engine", engine, *limits) as daemon:
        address, pid = address_of(daemon), daemon.process.pid
        others = threads_of(pid)
        with Crowd(address, 1000, HALF, host="127.0.0.2") as crowd:
            eventually(lambda: crowd.turned_away == 1000 - places // 2)
            assert honest(address, each=each) == 1000
            if engine == "threads":
                eventually(lambda: threads_of(pid) - others == places // 2)
            else:
                eventually(lambda: len(children_of(pid)) == places // 2)
            assert crowd.turned_away == 1000 - places // 2
        until(lambda: daemon.out.count(" refused messages=0 ") == 1000 - places // 2, "a line for each")
        assert daemon.out.count(" reason=crowded\n") == 1000 - places // 2


@pytest.mark.parametrize(("engine", "places"), [("threads", 200), ("forks", 40)])
def test_connection_above_the_limit_waits_in_the_queue_at_no_cost(launcelot: Folder, engine: str, places: int) -> None:
    limits = settings(max_connections=places, message_timeout="10m")
    with Live(launcelot.path, "launcelot", "--engine", engine, *limits) as daemon:
        address, pid = address_of(daemon), daemon.process.pid
        others = threads_of(pid)
        with Crowd(address, places, HALF), Crowd(address, 200, HALF) as waiting:
            until(lambda: f"limit of {places} connections reached" in daemon.out, "the line about the limit")
            eventually(lambda: queued(address) == 200)
            assert waiting.turned_away == 0
            if engine == "threads":
                assert threads_of(pid) - others == places
            else:
                assert len(children_of(pid)) == places
        assert honest(address, 1) == 1


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_five_hundred_mute_tls_clients_keep_no_honest_one_waiting(tmp_path: Path, engine: str) -> None:
    """Not under forks: their handshakes would take 500 processes, more than `Forks.capacity`."""
    limits = settings(handshake_timeout="10m", max_connections=600)
    context = theirs()

    def connect(daemon: Any) -> ssl.SSLSocket:
        return tls_live.connect(daemon, context)

    with tls_live.serve(tmp_path, "service = launcelot", "--engine", engine, *limits) as daemon, ExitStack() as stack:
        mute = stack.enter_context(Crowd(address_of(daemon), 500))
        assert honest(daemon, each=20, open_=connect) == 1000
        assert mute.turned_away == 0
        mute.leave()
        until(lambda: daemon.out.count(" messages=0 received=0 ") == 500, "a line for each")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.out + daemon.err
