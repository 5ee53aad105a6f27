"""Workers that are killed or reloaded under load: no connection is refused.

kill -9 of one of N workers, and of one every 100 ms for 10 s: 0 connections refused.  Ten reloads by SIGHUP with two
workers (ini, certificates, code): 0 refused, 0 reset."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
from pathlib import Path

import pytest

from tests.certificates import folder as certificates
from tests.operating.folder import GOOD, Folder
from tests.operating.live import Live, children, until
from tests.promises.crowds import Load, address_of
from tests.serving import tls_live
from tests.serving.peers import eventually
from tests.serving.tls_client import theirs

many_at_once = pytest.mark.parametrize("engine", ["threads", "pool", "loop"])

VERSION = """
    import daemons

    class Version(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, question):
            return b"{version}."
"""

INI = """
    [daemon]
    service = version:Version
    port = 0
    [limits]
    idle_timeout = {seconds}s
"""


def kill(daemon: Live, times: int) -> None:
    """Kill `times` workers, each as soon as a new one runs."""
    dead: set[int] = set()
    while len(dead) < times:
        pid = until(lambda: next((pid for pid in children(daemon.process.pid) if pid not in dead), 0), "a worker")
        os.kill(pid, signal.SIGKILL)
        dead.add(pid)


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_no_connection_is_refused_when_one_of_four_workers_is_killed(folder: Folder, engine: str) -> None:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    with Live(folder.path, "launcelot", "--engine", engine, "--processes", "4") as daemon:
        with Load(address_of(daemon)) as load:
            load.until_answered(50)
            victim = children(daemon.process.pid)[0]
            os.kill(victim, signal.SIGKILL)
            until(lambda: f"worker {victim} died of signal 9; starting a replacement" in daemon.out, "its replacement")
            eventually(lambda: len(children(daemon.process.pid)) == 4)
            load.until_answered(50)
        assert load.counts["refused"] == 0
        # The killed worker served at most one connection of each of the two clients.
        assert load.counts.total() - load.counts["answered"] <= 2, load.counts
        assert daemon.stop() == 0


def test_no_connection_is_refused_when_a_hundred_workers_are_killed(folder: Folder) -> None:
    """Kill ten per second, the rate of replacement: a worker that has lived less than a second is replaced after that
    second.  At times all twenty are dead, which is worse than one per 100 ms; then clients wait in the queue."""
    folder.write("launcelot", GOOD.replace("1060", "0"))
    with Live(folder.path, "launcelot", "--engine", "loop", "--processes", "20") as daemon:
        with Load(address_of(daemon)) as load:
            load.until_answered(50)
            kill(daemon, 100)
            until(lambda: daemon.out.count(" died of signal 9; starting a replacement") == 100, "every replacement")
            load.until_answered(50)
        assert load.counts["refused"] == 0
        # Each client lost at most the reply that the killed worker was about to send.
        assert load.counts.total() - load.counts["answered"] <= 100, load.counts
        assert daemon.stop() == 0


def take_up(daemon: Live, times: int) -> None:
    """Send SIGHUP, and wait until all workers are new."""
    before = set(children(daemon.process.pid))
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.out.count("reloaded; changed: limits.idle_timeout") == times, "the reload")
    until(lambda: len(now := children(daemon.process.pid)) == 2 and not before & {*now}, "two new workers")


@many_at_once
def test_ten_reloads_of_ini_and_code_refuse_and_reset_no_connection(folder: Folder, engine: str) -> None:
    def write(version: int) -> None:
        # A different length each time: Python detects a change by size and by mtime in seconds.
        folder.module("version", VERSION.format(version="x" * version))
        folder.write("version", INI.format(seconds=100 + version))

    def is_answer(heard: bytes) -> bool:
        return heard.rstrip(b".").strip(b"x") == b"" and heard.endswith(b".") and heard.count(b".") == 1

    write(1)
    with Live(folder.path, "version", "--engine", engine, "--processes", "2") as daemon:
        with Load(address_of(daemon), b"?", is_answer) as load:
            for times in range(1, 11):
                write(1 + times)
                take_up(daemon, times)
                load.until_answered(20)
        assert load.counts.keys() == {"answered"}, load.counts
        assert load.last == b"x" * 11 + b"."
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.out + daemon.err


def der_of(path: Path) -> bytes:
    """Return the first certificate in a file."""
    head, end, _ = path.read_text().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(head + end)


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_ten_reloads_of_the_certificate_refuse_and_reset_no_connection(tmp_path: Path, engine: str) -> None:
    trusting = theirs()
    trusting.load_verify_locations(certificates() / "other" / "ca.pem")

    def handshake(peer: socket.socket) -> socket.socket:
        return trusting.wrap_socket(peer, server_hostname="localhost")

    def put(number: int) -> None:
        for name in ("server.pem", "server.key"):
            shutil.copy(certificates() / ("other" if number % 2 else ".") / name, tmp_path / name)

    put(0)
    options = ["--engine", engine, "--processes", "2"]
    options += ["--set", f"tls.certificate={tmp_path}/server.pem", "--set", f"tls.key={tmp_path}/server.key"]
    with tls_live.serve(tmp_path, "service = launcelot", *options) as daemon:
        ini = tmp_path / "conf" / "x.ini"
        text = ini.read_text()
        with Load(address_of(daemon), dress=handshake) as load:
            for times in range(1, 11):
                put(times)
                ini.write_text(f"{text}\n[limits]\nidle_timeout = {100 + times}s\n")
                take_up(daemon, times)
                load.until_answered(10)
                with tls_live.connect(daemon, trusting) as peer:
                    assert peer.getpeercert(binary_form=True) == der_of(tmp_path / "server.pem")
        assert load.counts.keys() == {"answered"}, load.counts
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.out + daemon.err
