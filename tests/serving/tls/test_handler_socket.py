"""A stock handler over TLS: it gets a socket that is encrypted, once the handshake is complete."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from daemons.serving.engines import ENGINES
from tests.serving.tls_live import connect, ended, no_goodbye, plain, read, serve

RAW = "handler = tests.serving.services:Raw"

raw_engines = pytest.mark.parametrize("engine", [name for name in ENGINES if name != "loop"])


@raw_engines
def test_a_raw_handler(tmp_path: Path, engine: str) -> None:
    with serve(tmp_path, RAW, "--engine", engine) as daemon:
        with connect(daemon) as peer:
            peer.sendall(b"lancelot\n")
            assert read(peer, 9) == b"LANCELOT\n"
            peer.unwrap()
        assert ended(daemon, "finished")
        with plain(daemon) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert stranger.recv(100) == b""
        assert ended(daemon, "handshake").endswith(" reason=http-request")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.out + daemon.err


@raw_engines
def test_a_raw_handler_is_not_kept_waiting_for_a_handshake(tmp_path: Path, engine: str) -> None:
    with (
        serve(tmp_path, RAW, "--engine", engine, "--set", "limits.handshake_timeout=2s") as daemon,
        plain(daemon) as mute,
    ):
        assert mute.recv(1) == b""
        ended(daemon, "handshake")
        with connect(daemon) as peer:
            peer.sendall(b"lancelot\n")
            assert read(peer, 9) == b"LANCELOT\n"


@raw_engines
def test_a_raw_handler_has_its_deadlines(tmp_path: Path, engine: str) -> None:
    for limit, word in (("conversation_timeout", "overlong"), ("idle_timeout", "idle")):
        path = tmp_path / word
        path.mkdir()
        with serve(path, RAW, "--engine", engine, "--set", f"limits.{limit}=2s") as daemon:
            with connect(daemon) as peer:
                assert no_goodbye(peer)
            assert " messages=- " in ended(daemon, word)


@raw_engines
def test_malformed_tls_is_not_logged_as_a_failure_of_a_raw_handler(tmp_path: Path, engine: str) -> None:
    with serve(tmp_path, RAW, "--engine", engine) as daemon:
        with connect(daemon) as peer:
            with socket.socket(fileno=os.dup(peer.fileno())) as beneath:
                beneath.sendall(b"\x17\x03\x03\x00\x1f" + b"no record of ours, only as long")
            assert no_goodbye(peer)
        ended(daemon, "reset")
        assert "Traceback" not in daemon.out + daemon.err


@raw_engines
def test_a_bug_of_a_raw_handler(tmp_path: Path, engine: str) -> None:
    with serve(tmp_path, RAW, "--engine", engine) as daemon:
        with connect(daemon) as peer:
            peer.sendall(b"fail\n")
            assert no_goodbye(peer)
        ended(daemon, "failed")
        assert "a secret of the handler" in daemon.out


@raw_engines
def test_truncated_input_is_an_error_for_a_raw_handler(tmp_path: Path, engine: str) -> None:
    with serve(tmp_path, RAW, "--engine", engine) as daemon:
        with connect(daemon) as peer:
            peer.sendall(b"half a li")
            with socket.socket(fileno=os.dup(peer.fileno())) as beneath:
                beneath.shutdown(socket.SHUT_WR)
            # At the end of its input the handler would have replied to the half line.
            assert no_goodbye(peer)
        assert ended(daemon, "cut").endswith(" reason=unexpected-eof-while-reading")
        assert "Traceback" not in daemon.out + daemon.err


@pytest.mark.parametrize("engine", ["threads", "pool"])
@pytest.mark.parametrize("word", [b"silent", b"tls"])
def test_error_of_another_connection_is_a_failure_of_a_raw_handler(tmp_path: Path, engine: str, word: bytes) -> None:
    with serve(tmp_path, "handler = tests.serving.services:Elsewhere", "--engine", engine) as daemon:
        with connect(daemon) as peer:
            peer.sendall(word)
            assert no_goodbye(peer)
        ended(daemon, "failed")
