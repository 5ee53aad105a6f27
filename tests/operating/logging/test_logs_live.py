"""A daemon goes on serving while its log is not read, and logs the number of dropped lines."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, talk, until

#: fcntl(2): "Change the capacity of the pipe".
F_SETPIPE_SZ = 1031

ACCESS = re.compile(r" daemons\.launcelot\.access\[\d+\] 127\.0\.0\.1:\d+ done messages=1 received=19 sent=23 seconds=")


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    return folder


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of two pages, its reading end first."""
    read, write = os.pipe()
    with suppress(OSError):
        fcntl.fcntl(write, F_SETPIPE_SZ, 8192)
    yield read, write
    for descriptor in (read, write):
        with suppress(OSError):
            os.close(descriptor)


@pytest.mark.parametrize("engine", ["threads", "forks"])
def test_full_pipe_does_not_block_the_daemon(suite: Folder, pipe: tuple[int, int], engine: str) -> None:
    read, write = pipe
    os.set_blocking(read, False)
    with Live(suite.path, "launcelot", "--engine", engine, stdout=write) as daemon:
        for _ in range(100):
            assert talk(daemon.port) == GRAIL
        said = b""

        def receive() -> bool:
            nonlocal said
            with suppress(BlockingIOError):
                said += os.read(read, 1 << 16)
            return b"\n" in said

        until(receive, "a line in the pipe")
        if engine == "threads":
            # The next line that can be written is preceded by the number of dropped lines.
            assert talk(daemon.port) == GRAIL
            until(lambda: receive() and b"dropped lines: " in said, "the line that counts the others")
            (dropped,) = re.findall(rb"WARNING daemons\.operating\.logging\.logs\[\d+\] dropped lines: (\d+) \(", said)
            until(
                lambda: receive() and len(ACCESS.findall(said.decode())) + int(dropped) == 101,
                "every line, or its loss",
            )
        assert daemon.stop() == 0
        assert daemon.err.count("\n") == 1


def test_closed_pipe_does_not_stop_the_daemon(suite: Folder, pipe: tuple[int, int]) -> None:
    read, write = pipe
    with Live(suite.path, "launcelot", stdout=write) as daemon:
        os.close(read)
        for _ in range(10):
            assert talk(daemon.port) == GRAIL
        assert daemon.stop() == 0
        assert daemon.err.count("\n") == 1


def test_peer_cannot_forge_a_line(suite: Folder) -> None:
    """The service logs the message and raises an exception with its text."""
    suite.module(
        "frank",
        """
        import logging
        import daemons

        log = logging.getLogger(__name__)

        class Frank(daemons.Service):
            framing = daemons.Until(b"?", limit=16384)

            def respond(self, message):
                log.warning("asked %s", message.decode("latin-1"))
                raise ValueError(message.decode("latin-1"))
        """,
    )
    suite.write("frank", "[daemon]\nservice = frank:Frank\nport = 0\n")
    with Live(suite.path, "frank") as daemon:
        assert talk(daemon.port, b"a\n2026-01-01 INFO forged\x1b[2J\x9b" + b"x" * 9000 + b"?") == b""
        until(lambda: " failed messages=1 " in daemon.out, "the access line")
        asked, failed, access = daemon.out.splitlines()
        assert r"WARNING frank" in asked
        assert r"asked a\n2026-01-01 INFO forged\x1b[2J\x9bxx" in asked
        assert "the service failed\\nTraceback (most recent call last):" in failed
        assert failed.endswith("x?")
        assert " failed messages=1 received=9030 sent=0 " in access
        assert max(map(len, (asked, failed, access))) < 4096
        assert all(character.isprintable() or character == "\n" for character in daemon.out)
