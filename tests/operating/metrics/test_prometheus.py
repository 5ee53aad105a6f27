"""Prometheus: ``[metrics] listen``."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemons.operating.metrics import prometheus
from tests.operating.folder import GOOD, Folder
from tests.operating.live import QUEST, Live, daemons, free_port, refused, talk, until

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", "[daemon]\nservice = launcelot\nport = 0\n[metrics]\nlisten = tcp://127.0.0.1:0\n")
    return folder


def endpoint(daemon: Live) -> int:
    found = until(lambda: re.findall(r"Prometheus at tcp://127\.0\.0\.1:(\d+)", daemon.out), "the endpoint")
    return int(found[0])


def scrape(port: int | str) -> dict[tuple[str, str], float]:
    """Return the samples by name and distinguishing label."""
    head, _, body = talk(port, GET).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=")
    assert f"Content-Length: {len(body)}".encode() in head
    return {
        (sample.name, next((value for label, value in sample.labels.items() if label != "daemon"), "")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("engine", ["one", "threads", "forks", "loop", "pool"])
def test_response_has_the_counts(suite: Folder, engine: str, processes: str) -> None:
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", processes) as daemon:
        port = endpoint(daemon)
        for _ in range(5):
            assert talk(daemon.port, QUEST * 2)
        talk(daemon.port, b"What")
        until(
            lambda: sum(v for (name, _), v in scrape(port).items() if name == "daemons_conversations_total") == 6, "six"
        )
        found = scrape(port)
        assert found["daemons_accepted_total", ""] == 6
        assert found["daemons_messages_total", ""] == 10
        assert found["daemons_received_bytes_total", ""] == 10 * len(QUEST) + 4
        assert found["daemons_conversations_total", "done"] == 5
        assert found["daemons_conversations_total", "cut"] == 1
        assert (
            found["daemons_conversation_seconds_bucket", "+Inf"] == found["daemons_conversation_seconds_count", ""] == 6
        )
        assert found["daemons_active", ""] == 0
        assert found["daemons_refused_total", "denied"] == 0
        assert 0 <= found["daemons_silent_seconds", ""] < 5
        assert abs(found["daemons_start_time_seconds", ""] - time.time()) < 60
        assert daemon.stop() == 0
        assert refused(port)


@pytest.mark.parametrize("engine", ["forks", "loop"])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_slow_scraper_delays_no_connection(suite: Folder, engine: str, processes: str) -> None:
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", processes) as daemon:
        port = endpoint(daemon)
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        try:
            for number, peer in enumerate(slow):
                peer.sendall(GET[: number % len(GET)])
            began = time.monotonic()
            for _ in range(50):
                assert talk(daemon.port)
            assert time.monotonic() - began < 5.0
            # The slow scrapers exceed the endpoint's limit of connections: it closes some before it answers this one.
            assert scrape(port)["daemons_accepted_total", ""] == 50
        finally:
            for peer in slow:
                peer.close()


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /metrics?name=x HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"405 Method Not Allowed"),
        (b"\x16\x03\x01\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics\r\n\r\n", b"400 Bad Request"),
        (b"x" * 10000, b"400 Bad Request"),
    ],
)
def test_nothing_else_is_answered(suite: Folder, request_text: bytes, status: bytes) -> None:
    with Live(suite.path, "launcelot") as daemon:
        port = endpoint(daemon)
        assert talk(port, request_text).startswith(b"HTTP/1.1 " + status)
        assert scrape(port)["daemons_accepted_total", ""] == 0


def test_over_a_unix_socket(suite: Folder) -> None:
    run = suite.path / "run"
    with Live(suite.path, "launcelot", "--set", "metrics.listen=unix:run/m.sock") as daemon:
        assert scrape(str(run / "m.sock"))["daemons_accepted_total", ""] == 0
        assert daemon.stop() == 0
    assert sorted(path.name for path in run.iterdir()) == ["launcelot.metrics"]


def test_it_leaves_with_a_daemon_that_is_killed(suite: Folder) -> None:
    with Live(suite.path, "launcelot", "--processes", "2") as daemon:
        port = endpoint(daemon)
        daemon.process.kill()
        daemon.wait()
        until(lambda: refused(port) and refused(daemon.port), "both ports are free")


def test_a_port_that_is_taken_is_111(suite: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        ended = daemons(suite.path, "run", "launcelot", "--set", f"metrics.listen={address}")
    assert ended.returncode == 111
    assert ended.stderr.startswith(f"launcelot: {address}: address already in use")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (
            "tcp://0.0.0.0:9101",
            "[metrics] listen: tcp://0.0.0.0:9101 can be reached from other machines; to allow that",
        ),
        ("9101", "[metrics] listen = 9101: 9101 is not an address"),
    ],
)
def test_impossible_address_is_a_complaint(folder: Folder, value: str, complaint: str) -> None:
    folder.write("x", GOOD + f"\n[metrics]\nlisten = {value}\n")
    assert [text for text in folder.complaints() if complaint in text]


def test_a_missing_library_is_one_complaint(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("x", GOOD + "\n[metrics]\nlisten = tcp://127.0.0.1:9101\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert prometheus.complaints(folder.read()) == [
        "conf/x.ini [metrics] listen: needs prometheus_client, which is not installed; "
        "pip install 'camelot-daemons[metrics]'"
    ]
    assert capsys.readouterr().err == ""


def test_two_daemons_cannot_have_one_endpoint(folder: Folder) -> None:
    port = free_port()
    for number, name in enumerate(("a", "b")):
        text = GOOD.replace("1060", str(1061 + number)) + f"\n[metrics]\nlisten = tcp://127.0.0.1:{port}\n"
        folder.write(name, text)
    ended = daemons(folder.path, "check")
    assert ended.returncode == 100
    assert f"conf/b.ini [metrics] tcp://127.0.0.1:{port}: conf/a.ini has tcp://127.0.0.1:{port} already" in ended.stderr


def test_the_names_are_those_of_the_documentation(suite: Folder) -> None:
    page = (Path(prometheus.__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
    with Live(suite.path, "launcelot") as daemon:
        names = {name for name, _ in scrape(endpoint(daemon))}
    assert [name for name in names if re.sub(r"_(bucket|sum|count|info)$", "", name) not in page] == []
