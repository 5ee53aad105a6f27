"""Logging: one event is one line, and 100,000 lines of N processes survive rotation.  With a full disk or a blocked
reader all requests are answered, and the dropped lines are counted and reported."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from textwrap import dedent

import pytest

from tests.end_to_end.project import Project
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, daemons, talk, until
from tests.promises.crowds import address_of, honest, settings
from tests.serving.peers import children_of, connect, eventually

LINES, EACH = 100_000, 400

#: A line of `TELLING` in the log file.
LINE = "2026-11-21 10:00:11,809 INFO daemons.telling[%d] line %d of many, one of those that must be there\n"

TELLING = """
    import logging, os
    import daemons

    log = logging.getLogger("daemons.telling")

    class Telling(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def respond(self, question):
            first = int(question[:-1])
            for number in range(first, first + EACH):
                log.info("line %d of many, one of those that must be there", number)
            return b"%d." % os.getpid()
"""


@pytest.mark.timeout(110)
def test_a_hundred_thousand_lines_of_two_processes_through_rotation(project: Project) -> None:
    (project.path / "telling.py").write_text(dedent(TELLING.replace("EACH", str(EACH))), "utf-8")
    project.keep("launcelot")
    project.edit("launcelot", "service = launcelot", "service = telling:Telling\nprocesses = 2")
    project.edit_supervision({"stdout_logfile_maxbytes": "512KB", "stdout_logfile_backups": "100"})
    project.run()
    logs = project.path / "logs"

    def written() -> int:
        """Return the bytes in all files, each counted once, although they may be renamed meanwhile."""
        sizes: dict[int, int] = {}
        for path in logs.glob("launcelot.log*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                sizes[status.st_ino] = status.st_size
        return sum(sizes.values())

    with ExitStack() as stack:
        peers: dict[int, socket.socket] = {}
        asked = size = 0

        def ask(peer: socket.socket) -> int:
            nonlocal asked, size
            # The pipe to supervisord holds 64 KiB; lines that it does not take in time are dropped, as specified.
            until(lambda: written() >= size, "supervisord keeping up")
            peer.sendall(b"%d?" % asked)
            answer = b""
            while not answer.endswith(b"."):
                data = peer.recv(64)
                assert data
                answer += data
            pid = int(answer[:-1])
            size += sum(len(LINE % (pid, number)) for number in range(asked, asked + EACH))
            asked += EACH
            return pid

        while len(peers) < 2:
            peer = stack.enter_context(connect(("127.0.0.1", project.port)))
            peers.setdefault(ask(peer), peer)
        while asked < LINES:
            for pid, peer in peers.items():
                assert ask(peer) == pid
    found: list[str] = []

    def all_found() -> bool:
        with suppress(FileNotFoundError):  # renamed meanwhile
            found[:] = [line for path in logs.glob("launcelot.log*") for line in path.read_text("utf-8").splitlines()]
        return sum("one of those" in line for line in found) >= asked

    until(all_found, "every line")
    told = re.compile(r"\S+ \S+ INFO daemons\.telling\[(\d+)\] line (\d+) of many, one of those that must be there")
    matches = [match for line in found if (match := told.fullmatch(line))]
    assert sorted(int(match[2]) for match in matches) == list(range(asked))
    assert {int(match[1]) for match in matches} == set(peers)
    assert len(list(logs.glob("launcelot.log.*"))) > 10
    assert not [line for line in found if "dropped lines" in line]


# --- logs that cannot be written -------------------------------------------------------------------


@pytest.fixture
def launcelot(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    return folder


#: A quarter of the shortest timeout.
LOOKING = settings(write_timeout="40ms")


def dropped(path: Path) -> int:
    """Return the number of dropped lines in ``daemons stats``."""
    found = re.search(r"^dropped log lines +([\d,]+)", daemons(path, "stats", "launcelot").stdout, re.MULTILINE)
    assert found
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize(("engine", "each"), [("threads", 1), ("loop", 1), ("forks", 20)])
def test_all_requests_are_answered_with_a_full_disk(launcelot: Folder, engine: str, each: int) -> None:
    """full(4): "Writes to the /dev/full device fail with an ENOSPC error"."""
    with (
        open("/dev/full", "wb", buffering=0) as full,
        Live(launcelot.path, "launcelot", "--engine", engine, stdout=full.fileno()) as daemon,
    ):
        assert honest(address_of(daemon), each=each) == 1000
        until(lambda: dropped(launcelot.path) == 1000 // each, "all of them counted")
        assert daemon.stop() == 0
        assert daemon.err.count("\n") == 1


def test_a_child_of_forks_counts_its_last_line_too(launcelot: Folder) -> None:
    """The daemon polls every 10 ms, so each child has counted before its conversation ends."""
    with (
        open("/dev/full", "wb", buffering=0) as full,
        Live(launcelot.path, "launcelot", "--engine", "forks", *LOOKING, stdout=full.fileno()) as daemon,
    ):
        assert honest(address_of(daemon), each=100) == 1000
        eventually(lambda: children_of(daemon.process.pid) == [])
        until(lambda: dropped(launcelot.path) == 10, "ten lines counted")


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_workers_count_their_last_lines_too(launcelot: Folder, engine: str) -> None:
    with (
        open("/dev/full", "wb", buffering=0) as full,
        Live(
            launcelot.path, "launcelot", "--engine", engine, "--processes", "2", *LOOKING, stdout=full.fileno()
        ) as daemon,
    ):
        assert honest(address_of(daemon), 100) == 100
        assert daemon.stop() == 0
        # Each of the two workers has logged that it is stopping.
        assert dropped(launcelot.path) == 100 + 2


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_all_requests_are_answered_with_a_blocked_log_reader(launcelot: Folder, engine: str) -> None:
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, 1031, 8192)  # F_SETPIPE_SZ, fcntl(2)
        os.set_blocking(read, False)
        with Live(launcelot.path, "launcelot", "--engine", engine, stdout=write) as daemon:
            assert honest(address_of(daemon)) == 1000
            until(lambda: dropped(launcelot.path) > 800, "those that did not fit counted")
            said = os.read(read, 1 << 16).decode()
            assert talk(daemon.port) == GRAIL
            assert daemon.stop() == 0
            os.set_blocking(read, False)
            said += os.read(read, 1 << 16).decode()
            lost = dropped(launcelot.path)  # read again, since not all lines had been counted before
        reported = re.findall(
            r"WARNING daemons\.operating\.logging\.logs\[\d+\] dropped lines: (\d+) \(\d+ bytes\)\n", said
        )
        assert sum(map(int, reported)) == lost
        assert said.count(" done messages=1 ") + lost == 1001
    finally:
        os.close(read)
        os.close(write)
