"""Memory that a single peer can make a daemon use.

A pipeline of 1,000 questions is answered in order, with less than 8 MiB growth.  A peer that never reads is limited to
one reply in memory, and ended after `write_timeout`.  64 MiB without a delimiter, and a false length, are refused at
the limit, with less than 4 MiB growth."""

from __future__ import annotations

import select
import socket
import subprocess
import threading
from contextlib import ExitStack, suppress

import pytest

from daemons.serving.engines import ENGINES
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, QUEST, Live, alive, is_waiting, until
from tests.promises.crowds import MIB, address_of, growth, settings
from tests.serving.peers import ask, children_of, connect, hear, hear_all

each_engine = pytest.mark.parametrize("engine", ENGINES)

NAME, BLUE = b"My name is Sir Launcelot of Camelot.", b"Blue."
QUESTIONS = (b"What is your name?", QUEST, b"What is your favorite color?")

LAVISH = """
    import daemons

    class Lavish(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, question):
            return b"x" * 1024 * 1024
"""


#: Of a service that reads on for longer, behind a message that it has refused, than 64 MiB take on a busy machine.
PATIENT = """
    from daemons.launcelot import Launcelot
    from daemons.serving import pump
    from daemons.serving.engines import connection_poller

    pump.LINGER = connection_poller.LINGER = 60.0
"""


@pytest.fixture
def launcelot(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    return folder


def serving(daemon: Live) -> int:
    """Return the pid of the process that serves the only connection."""
    *_, pid = (daemon.process.pid, *children_of(daemon.process.pid))
    return pid


def test_growth_of_a_process_that_ends_is_not_known() -> None:
    def end() -> None:
        with growth(process.pid, 1024 * MIB):
            process.kill()
            until(lambda: not alive(process.pid), "its end")

    with subprocess.Popen(["sleep", "60"]) as process, pytest.raises(AssertionError, match="ended before its peak"):
        end()


@each_engine
def test_a_pipeline_of_a_thousand(launcelot: Folder, engine: str) -> None:
    questions = (QUESTIONS * 334)[:1000]
    answers = ((NAME, GRAIL, BLUE) * 334)[:1000]
    with Live(launcelot.path, "launcelot", "--engine", engine) as daemon, connect(address_of(daemon)) as peer:
        ask(peer, QUEST, GRAIL)
        with growth(serving(daemon), 8 * MIB):
            ask(peer, b"".join(questions), b"".join(answers))


@pytest.fixture
def lavish(folder: Folder) -> Folder:
    folder.module("lavish", LAVISH)
    folder.write("lavish", "[daemon]\nservice = lavish:Lavish\nport = 0\n")
    return folder


many_at_once = pytest.mark.parametrize("engine", ["threads", "forks", "pool", "loop"])


@many_at_once
def test_peer_that_requests_1000_mebibytes_and_reads_nothing_is_bounded(lavish: Folder, engine: str) -> None:
    limits = settings(write_timeout="10m")
    with Live(lavish.path, "lavish", "--engine", engine, *limits) as daemon, connect(address_of(daemon)) as peer:
        peer.sendall(b"?")
        assert len(hear_exactly(peer, MIB)) == MIB
        pid = serving(daemon)
        with growth(pid, 16 * MIB):  # one reply, and pages that malloc keeps of earlier ones
            peer.sendall(b"?" * 1000)
            until(lambda: select.select([peer], [], [], 0)[0] and is_waiting(pid), "a daemon that waits for its peer")
        assert "Traceback" not in daemon.out + daemon.err


@many_at_once
def test_peer_that_requests_1000_mebibytes_and_reads_nothing_is_ended(lavish: Folder, engine: str) -> None:
    limits = settings(write_timeout="200ms")
    with Live(lavish.path, "lavish", "--engine", engine, *limits) as daemon, connect(address_of(daemon)) as peer:
        peer.sendall(b"?" * 1000)
        until(lambda: " stuck messages=" in daemon.out, "the end of its patience")
        assert "Traceback" not in daemon.out + daemon.err


def hear_exactly(peer: socket.socket, size: int) -> bytes:
    heard = bytearray()
    while len(heard) < size and (data := peer.recv(size - len(heard))):
        heard += data
    return bytes(heard)


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_peer_that_pipelines_64_mebibytes_and_reads_nothing_is_bounded(launcelot: Folder, engine: str) -> None:
    limits = settings(write_timeout="500ms")
    with Live(launcelot.path, "launcelot", "--engine", engine, *limits) as daemon:
        with connect(address_of(daemon)) as peer:
            ask(peer, QUEST, GRAIL)
            with growth(serving(daemon), 4 * MIB), suppress(ConnectionError):
                for _ in range(64):
                    peer.sendall(QUEST * (MIB // len(QUEST)))  # until the daemon stops reading
        until(lambda: " stuck messages=" in daemon.out, "the end of its patience")


@each_engine
def test_64_mebibytes_without_a_delimiter(folder: Folder, engine: str) -> None:
    folder.module("patient", PATIENT)
    folder.write("patient", "[daemon]\nservice = patient:Launcelot\nport = 0\n")
    with Live(folder.path, "patient", "--engine", engine) as daemon, connect(address_of(daemon)) as peer:
        ask(peer, QUEST, GRAIL)
        sent = [0]

        def say() -> None:
            with suppress(OSError):
                for _ in range(64):
                    peer.sendall(b"x" * MIB)
                    sent[0] += 1

        with growth(serving(daemon), 4 * MIB):
            saying = threading.Thread(target=say)
            saying.start()
            # Refused at launcelot's limit of 4,096; further input is read and discarded.
            hear(peer, b"I don't know that.")
            saying.join()
        peer.shutdown(socket.SHUT_WR)
        assert hear_all(peer) == b""
        assert sent == [64]
        until(lambda: " oversize messages=1 " in daemon.out, "the access line")


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_a_length_that_lies(folder: Folder, engine: str) -> None:
    folder.write("prefix", "[daemon]\nservice = prefix\nport = 0\n")
    with Live(folder.path, "prefix", "--engine", engine) as daemon, ExitStack() as stack:
        with connect(address_of(daemon)) as peer:
            ask(peer, b"\0\0\0\2ok", b"\0\0\0\2ok")
        with growth(serving(daemon), 4 * MIB):
            # The maximum length, and no data: memory is allocated for received bytes, not for the announced length.
            for _ in range(100 if engine == "loop" else 10):
                stack.enter_context(connect(address_of(daemon))).sendall(b"\0\x10\0\0begun")
            with connect(address_of(daemon)) as peer:
                peer.sendall(b"\xff\xff\xff\xff")
                assert hear_all(peer) == b""
        until(lambda: " oversize messages=0" in daemon.out, "the access line")
