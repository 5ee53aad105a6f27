"""TLS under every engine, with real sockets: the engines do not know of it, and it keeps every deadline."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemons.serving.engines import ENGINES
from tests.certificates import folder
from tests.operating.live import GRAIL, QUEST, environment, until
from tests.serving.tls_client import theirs
from tests.serving.tls_live import connect, ended, no_goodbye, plain, read, serve

every_engine = pytest.mark.parametrize("engine", ENGINES)
many_at_once = pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "one"])

LAUNCELOT = "service = launcelot"
ECHO = "service = tests.serving.services:Echo"


@every_engine
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_conversation(tmp_path: Path, engine: str, version: str) -> None:
    with serve(tmp_path, LAUNCELOT, "--engine", engine) as daemon:
        assert daemon.addresses[0].startswith("tls://127.0.0.1:")
        with connect(daemon, theirs(version)) as peer:
            peer.sendall(QUEST * 100)
            assert read(peer, 100 * len(GRAIL)) == GRAIL * 100
            peer.unwrap()  # fails where the daemon says no goodbye
        assert " messages=100 " in ended(daemon, "done")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.out + daemon.err


def test_processes(tmp_path: Path) -> None:
    with serve(tmp_path, LAUNCELOT, "--engine", "loop", "--processes", "2") as daemon:
        for _ in range(20):
            with connect(daemon) as peer:
                peer.sendall(QUEST)
                assert read(peer, len(GRAIL)) == GRAIL
        assert daemon.stop() == 0


@every_engine
def test_reply_larger_than_the_socket_buffers(tmp_path: Path, engine: str) -> None:
    with (
        serve(tmp_path, "service = tests.serving.services:Loud", "--engine", engine) as daemon,
        connect(daemon) as peer,
    ):
        peer.sendall(b"\n")
        assert read(peer, 32 * 1024**2).count(b"x") == 32 * 1024**2


@every_engine
def test_peer_without_tls_is_one_log_line(tmp_path: Path, engine: str) -> None:
    with serve(tmp_path, LAUNCELOT, "--engine", engine) as daemon:
        with plain(daemon) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: camelot\r\n\r\n")
            assert peer.recv(100) == b""
        assert ended(daemon, "handshake").endswith(" reason=http-request")
        plain(daemon).close()
        until(lambda: daemon.out.count(" handshake messages=0 ") == 2, "the line of a port scan")
        assert daemon.stop() == 0
        assert len([line for line in daemon.out.splitlines() if ".access[" in line]) == 2
        assert "Traceback" not in daemon.out + daemon.err


@every_engine
def test_handshake_timeout_is_not_extended_by_single_bytes(tmp_path: Path, engine: str) -> None:
    options = ("--engine", engine, "--set", "limits.handshake_timeout=1s")
    with (
        serve(tmp_path, LAUNCELOT, *options) as daemon,
        plain(daemon) as mute,
        ExitStack() as others,
    ):
        # A truncated ClientHello, and a complete hello whose client ignores the server's reply.
        half = others.enter_context(plain(daemon))
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = theirs().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        silent = others.enter_context(plain(daemon))
        silent.sendall(outgoing.read())
        assert mute.recv(1) == b""
        assert half.recv(1) == b""
        assert silent.recv(65536)
        while silent.recv(65536):
            pass
        until(lambda: daemon.out.count(" handshake messages=0 ") == 3, "three lines")


@many_at_once
def test_handshake_timeout_ends_with_the_handshake(tmp_path: Path, engine: str) -> None:
    with (
        serve(tmp_path, LAUNCELOT, "--engine", engine, "--set", "limits.handshake_timeout=2s") as daemon,
        connect(daemon) as thoughtful,
        plain(daemon) as mute,
    ):
        assert mute.recv(1) == b""  # the handshake timeout has passed
        thoughtful.sendall(QUEST)
        assert read(thoughtful, len(GRAIL)) == GRAIL


@many_at_once
def test_silent_clients_do_not_delay_others(tmp_path: Path, engine: str) -> None:
    options = ("--set", "limits.handshake_timeout=1m", "--set", "limits.max_connections=250")
    with serve(tmp_path, LAUNCELOT, "--engine", engine, *options) as daemon, ExitStack() as mute:
        for _ in range(200):
            mute.enter_context(plain(daemon))
        with connect(daemon) as peer:
            peer.sendall(QUEST)
            assert read(peer, len(GRAIL)) == GRAIL
        mute.close()
        until(lambda: daemon.out.count(" handshake messages=0 ") == 200, "a line for each")


@every_engine
def test_idle_and_slow_peers(tmp_path: Path, engine: str) -> None:
    options = ("--set", "limits.idle_timeout=1s", "--set", "limits.message_timeout=1s")
    with serve(tmp_path, LAUNCELOT, "--engine", engine, *options) as daemon:
        for words, word in ((b"", "idle"), (b"What", "slow")):
            with connect(daemon) as peer:
                peer.sendall(words)
                assert no_goodbye(peer)
            ended(daemon, word)


@every_engine
def test_idle_peer_gets_close_notify_when_the_daemon_stops(tmp_path: Path, engine: str) -> None:
    with serve(tmp_path, LAUNCELOT, "--engine", engine) as daemon, connect(daemon) as peer:
        peer.sendall(QUEST)
        assert read(peer, len(GRAIL)) == GRAIL
        daemon.process.send_signal(signal.SIGTERM)
        assert peer.recv(1) == b""  # not the end of the file, which raises
        peer.close()
        assert daemon.wait() == 0
        ended(daemon, "drained")


@every_engine
def test_a_message_under_way_is_finished_when_the_daemon_stops(tmp_path: Path, engine: str) -> None:
    with serve(tmp_path, LAUNCELOT, "--engine", engine) as daemon, connect(daemon) as peer:
        peer.sendall(QUEST + QUEST[:7])
        read(peer, len(GRAIL))
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in daemon.out, "the line of the stop")
        peer.sendall(QUEST[7:])
        assert read(peer, len(GRAIL)) == GRAIL
        assert peer.recv(1) == b""
        peer.close()
        assert daemon.wait() == 0


def test_client_certificates(tmp_path: Path) -> None:
    with serve(tmp_path, LAUNCELOT, tls=f"client_ca = {folder()}/ca.pem") as daemon:
        with connect(daemon, theirs(certificate="client.pem")) as peer:
            peer.sendall(QUEST)
            assert read(peer, len(GRAIL)) == GRAIL
        # In TLS 1.3 the client may send data before it learns of the refusal.
        with connect(daemon) as stranger:
            stranger.sendall(QUEST * 1000)
            with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
                stranger.recv(1)
        assert ended(daemon, "handshake").endswith(" reason=peer-did-not-return-a-certificate")


def test_minimum_version_is_enforced(tmp_path: Path) -> None:
    with serve(tmp_path, LAUNCELOT, tls="minimum = 1.3") as daemon:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
            connect(daemon, theirs("1.2"))
        connect(daemon).close()


# --- openssl s_client --------------------------------------------------------------------------------

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing: make engines")


@openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client(tmp_path: Path, version: str) -> None:
    with serve(tmp_path, LAUNCELOT) as daemon:
        command = ["openssl", "s_client", "-quiet", version, "-connect", f"127.0.0.1:{daemon.port}"]
        trust = ["-CAfile", f"{folder()}/ca.pem", "-verify_return_error", "-verify_ip", "127.0.0.1", "-x509_strict"]
        with subprocess.Popen(
            command + trust,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(QUEST)
            client.stdin.flush()
            assert client.stdout.read(len(GRAIL)) == GRAIL
            client.terminate()


@openssl
def test_renegotiation_is_refused(tmp_path: Path) -> None:
    with serve(tmp_path, LAUNCELOT) as daemon:
        asked = subprocess.run(
            ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{daemon.port}", "-CAfile", f"{folder()}/ca.pem"],
            input=b"R\n",
            capture_output=True,
            timeout=30,
            env=environment(),
            check=False,
        )
        assert b"RENEGOTIATING" in asked.stdout + asked.stderr
        assert b"no renegotiation" in asked.stderr
        ended(daemon, "reset")
