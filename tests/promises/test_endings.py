"""Endings are the same under every engine.

Promise R5: for every ending the access word, the reason, the counters and the deadlines agree under all engines, over
TCP, a Unix socket, TLS and UDP."""

from __future__ import annotations

import signal
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from daemons.operating.metrics.stats import read
from daemons.serving.engines import ENGINES
from tests.operating.folder import Folder
from tests.operating.live import Live, until
from tests.promises.endings import (
    ACCESS,
    DATAGRAMS,
    SCENARIOS,
    SERVICE,
    TLS_SCENARIOS,
    Expected,
    Scenario,
    Suite,
    ask,
    asking,
    leaving,
    saying,
    then,
)
from tests.serving.peers import is_gone

each_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture
def suite(folder: Folder, engine: str) -> Iterator[Suite]:
    made = Suite(folder, engine)
    with made.daemon:
        yield made


@each_engine
@pytest.mark.parametrize("transport", ["tcp", "unix", "tls"])
def test_every_ending_has_the_same_access_line_under_each_engine(suite: Suite, transport: str) -> None:
    scenarios = SCENARIOS
    if transport == "unix":  # where a peer that has read everything cannot reset
        scenarios = {name: each for name, each in SCENARIOS.items() if "reset" not in name}
    if transport == "tls":  # where an end of input is a truncation, or needs close_notify: tested below
        scenarios = {
            name: (scenario, (word, messages, None, None, reason))
            for name, (scenario, (word, messages, _, _, reason)) in SCENARIOS.items()
            if not name.startswith(("done", "cut"))
        }
    wanted = {name: expected for name, (_, expected) in scenarios.items()}
    found = suite.endings(transport, scenarios)
    assert found == wanted
    counted = Counter(word for word, *_ in found.values())
    path = suite.folder.path / "run" / "ends.metrics"
    until(lambda: {word: n for word, n in read(path).endings.items() if n} == counted, "the counters")
    figures = read(path)
    assert figures.messages == sum(messages for _, messages, *_ in found.values())
    if transport == "tcp":
        assert figures.received >= sum(received or 0 for _, _, received, *_ in found.values())
    tracebacks = sum("fail" in name for name in found)
    assert suite.daemon.out.count("the service failed") == tracebacks


@each_engine
def test_every_ending_of_tls_has_the_same_access_line_under_each_engine(suite: Suite) -> None:
    def goodbye(peer: socket.socket) -> None:
        assert isinstance(peer, ssl.SSLSocket)
        peer.unwrap()

    found = suite.endings("tls", TLS_SCENARIOS, handshake=False)
    after: dict[str, tuple[Scenario, Expected]] = {
        "done": (then(asking(b"a"), goodbye), ("done", 1, None, None, "")),
        "done, and a failure in finally": (then(asking(b"trap"), goodbye), ("failed", 1, None, None, "")),
        "no goodbye between messages": (then(asking(b"a"), leaving), ("done", 1, None, None, "")),
        "no goodbye within a message": (then(asking(b"a"), saying(b"b"), leaving), ("cut", 1, None, None, "")),
        "goodbye within a message": (then(asking(b"a"), saying(b"b"), goodbye), ("cut", 1, None, None, "")),
    }
    found |= suite.endings("tls", after)
    assert found == {name: expected for name, (_, expected) in (TLS_SCENARIOS | after).items()}


@each_engine
def test_a_stop_ends_conversations_with_the_same_words_under_each_engine(suite: Suite, engine: str) -> None:
    words = {"idle": "drained", "trapped": "failed", "busy": "stopped"}
    if engine == "one":
        del words["trapped"], words["busy"]
    idle = suite.connect("tcp")
    others: list[socket.socket] = []
    with idle:
        ask(idle, b"a")
        if engine != "one":
            others = [suite.connect("tcp"), suite.connect("tcp")]
            ask(others[0], b"trap")
            others[1].sendall(b"b")
        until(lambda: read(suite.folder.path / "run" / "ends.metrics").active == len(words), "all of them")
        suite.daemon.process.send_signal(signal.SIGTERM)
        for peer in (idle, *others):
            is_gone(peer)
            peer.close()
    assert suite.daemon.wait() == 0
    found = sorted(match["word"] for match in ACCESS.finditer(suite.daemon.out))
    expected = sorted(words.values())
    # The half message may reach its deadline before drain_timeout, which is longer.
    assert [word.replace("slow", "stopped") for word in found] == expected


@each_engine
def test_every_ending_of_a_datagram_has_the_same_access_line_under_each_engine(folder: Folder, engine: str) -> None:
    folder.module("ends", SERVICE)
    folder.write("ends", "[daemon]\nservice = ends:Ends\nlisten = udp://127.0.0.1:0\n")
    with Live(folder.path, "ends", "--engine", engine) as daemon, socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.settimeout(20)
        peer.connect(("127.0.0.1", int(daemon.addresses[0].rpartition(":")[2])))
        for number, (name, (datagram, expected, reply)) in enumerate(DATAGRAMS.items(), 1):
            peer.send(datagram)
            if reply:
                assert peer.recv(100) == reply, name
            until(lambda: len(ACCESS.findall(daemon.out)) >= number, "an access line")  # noqa: B023, called at once
            found = list(ACCESS.finditer(daemon.out))[-1]
            figures = (int(found["messages"]), int(found["received"]), int(found["sent"]))
            assert (found["word"], *figures, (found["reason"] or "").strip('"')) == expected, name
        counted = Counter(expected[0] for _, expected, _ in DATAGRAMS.values())
        path = folder.path / "run" / "ends.metrics"
        until(lambda: {word: n for word, n in read(path).endings.items() if n} == counted, "the counters")
        assert daemon.out.count("the service failed") == sum("fail" in name for name in DATAGRAMS)
        peer.setblocking(False)
        with suppress(BlockingIOError):
            raise AssertionError(peer.recv(100))
