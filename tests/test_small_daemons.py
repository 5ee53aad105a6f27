"""Log lines of the small daemons, and conversations with plain socket clients.

Their conversations are in ``transcripts/``, and are held under every engine; their clients are in ``clients/``.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from daemons.daytime import Daytime
from daemons.operating.config import ini
from daemons.serving.pump import Pump
from daemons.twoway import TwoWay
from daemons.upper import Upper
from tests.operating.folder import Folder
from tests.operating.live import Live
from tests.serving.conftest import within as within
from tests.serving.peers import connect, converse, hear_all
from tests.serving.running import Within, access_of
from tests.transcripts.transcripts import replay, service_of

ROOT = Path(__file__).parents[1]

ZEN = [b"Beautiful is better than ugly.", b"Explicit is better than implicit.", b"Simple is better than complex."]


def said(name: str, words: bytes, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log lines of a conversation."""
    caplog.set_level(logging.INFO, f"daemons.{name}")
    replay(service_of(name), [words])
    return [record.getMessage() for record in caplog.records]


def test_sixteen_logs_the_message(caplog: pytest.LogCaptureFixture) -> None:
    assert said("sixteen", b"Hi there, server", caplog) == ["Incoming sixteen-octet message: b'Hi there, server'"]


def test_sixteen_logs_the_length_of_an_incomplete_message(within: Callable[..., Within]) -> None:
    running = within("threads", Pump.for_service(service_of("sixteen")))
    _, name = converse(running.address, b"Hi there, serve")
    assert access_of(running, name)[0] == "cut"
    assert running.log_line(name, 'reason="was expecting 16 bytes but only received 15 bytes before the socket closed"')


def test_streamer_logs_each_line(caplog: pytest.LogCaptureFixture) -> None:
    lines = [line.decode() for line in ZEN]
    assert said("streamer", b"\n".join(ZEN) + b"\n", caplog) == ["Done receiving the message; it says:", *lines]


def test_blocks_logs_each_block(caplog: pytest.LogCaptureFixture) -> None:
    wire = b"".join(struct.pack("!I", len(block)) + block for block in (*ZEN, b""))
    assert said("blocks", wire, caplog) == [f"Block says: {block!r}" for block in ZEN]


def test_of_many_lines_or_blocks_in_one_message_the_first_thousand_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    lines = said("streamer", b"\n" * 5000, caplog)
    assert lines[1:] == [""] * 1000 + ["(4000 more lines)"]
    caplog.clear()
    wire = struct.pack("!I", 1) + b"a"
    blocks = said("blocks", wire * 1001 + bytes(4) + wire * 1000 + bytes(4), caplog)
    assert blocks == ["Block says: b'a'"] * 1000 + ["(1 more blocks)"] + ["Block says: b'a'"] * 1000


def test_twoway_logs_the_digest(caplog: pytest.LogCaptureFixture) -> None:
    assert said("twoway", b"abc", caplog) == [f"3 bytes, SHA-256 {hashlib.sha256(b'abc').hexdigest()}"]


def test_twoway_reads_a_stream_up_to_the_configured_limit() -> None:
    service = TwoWay(TwoWay.Options(limit=3))
    assert replay(service, [b"abc"])[0].startswith(b"abc\nba7816bf")
    assert replay(service, [b"abcd"])[0] == b""


def test_daytime_sends_the_time() -> None:
    before = datetime.datetime.now()
    told, _ = replay(Daytime(), [])
    assert before <= datetime.datetime.fromisoformat(told.decode().rstrip("\n")) <= datetime.datetime.now()


def test_fifty_daytime_clients_at_once_do_not_wait_for_each_other(within: Callable[..., Within]) -> None:
    running = within("threads", Pump.for_service(Daytime()))
    visitors = [connect(running.address) for _ in range(50)]
    try:
        # In reverse order: no client has to leave before another is served.
        assert all(hear_all(visitor).endswith(b"\n") for visitor in reversed(visitors))
    finally:
        for visitor in visitors:
            visitor.close()


# --- echo, on all its listeners ------------------------------------------------------------------------


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Live]:
    """Start echo as shipped, on other ports."""
    folder = Folder(tmp_path)
    folder.write("echo", (ROOT / "conf/echo.ini").read_text().replace("10007", "0"))
    with Live(folder.path, "echo") as daemon:
        yield daemon


def test_echo_returns_the_input_on_every_listener(echo: Live) -> None:
    schemes = set()
    for address in echo.addresses:
        scheme, _, where = address.partition(":")
        schemes.add(scheme)
        host, _, port = where.removeprefix("//").rpartition(":")
        octets = random.randbytes(50_000 if scheme == "udp" else 1024**2)
        kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
        if scheme == "unix":
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(10.0)
            peer.connect(where)
        else:
            peer = socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET, kind)
            peer.settimeout(10.0)
            peer.connect((host.strip("[]"), int(port)))
        with peer:
            if scheme == "udp":
                peer.send(octets)
                assert peer.recv(65_535) == octets
                continue
            sending = threading.Thread(target=lambda peer=peer, octets=octets: _send_all(peer, octets))
            sending.start()
            assert hear_all(peer) == octets
            sending.join()
    assert schemes == {"tcp", "udp", "unix"}


def _send_all(peer: socket.socket, octets: bytes) -> None:
    peer.sendall(octets)
    peer.shutdown(socket.SHUT_WR)


# --- upper, with a client that sends before it reads ----------------------------------------------------


def test_upper_as_shipped_spools_replies_that_the_client_has_not_read(within: Callable[..., Within]) -> None:
    settings = ini.read(ROOT / "conf", "upper")
    assert settings.limits.spool == 256 * 1024**2
    running = within(settings.daemon.engine, Pump.for_service(Upper()), settings.limits)
    # T13: 5 MB pass without a spool, and 20 MB do not.
    words = b"capitalize this!" * (40 * 1024**2 // 16)
    with closing(connect(running.address)) as client:
        client.sendall(words)
        client.shutdown(socket.SHUT_WR)
        with connect(running.address) as other:  # others are served meanwhile
            other.sendall(b"a")
            assert other.recv(1) == b"A"
        assert hear_all(client) == words.upper()


def test_the_file_of_a_spool_has_no_name(
    within: Callable[..., Within], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    running = within("loop", Pump.for_service(Upper()), ini.read(ROOT / "conf", "upper").limits)
    with connect(running.address) as client:
        client.sendall(bytes(24 * 1024**2))
        client.shutdown(socket.SHUT_WR)
        assert os.listdir(tmp_path) == []
        assert len(hear_all(client)) == 24 * 1024**2
