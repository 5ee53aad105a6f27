"""The Nth system call of a kind fails: no accepted connection is dropped unanswered, and no descriptor leaks."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from soak.failures import CASES
from tests.serving.peers import ask, connect, eventually
from tests.serving.running import Process

#: Numbers of connections: one after the other, and at the same time.
ROUNDS, AT_ONCE = 6, 4


def failing(kind: str, first: int, period: int) -> Callable[[list[str]], list[str]]:
    """Return how to launch a daemon in which some calls fail."""

    def launch(command: list[str]) -> list[str]:
        module = command.index("daemons")
        return [*command[:module], "soak.faults", kind, str(first), str(period), *command[module + 1 :]]

    return launch


def descriptors(running: Process) -> int:
    return len(os.listdir(f"/proc/{running.pid}/fd"))


def converse(running: Process, engine: str) -> int:
    """Make requests over many connections, each of which must be answered; return the number of connections."""
    at_once = 1 if engine == "one" else AT_ONCE
    for number in range(ROUNDS):
        with ExitStack() as stack:
            peers = [stack.enter_context(connect(running.address)) for _ in range(at_once)]
            for each, peer in enumerate(peers):
                line = b"%d %d\n" % (number, each)
                ask(peer, line, line)
    return ROUNDS * at_once


@pytest.mark.parametrize(("first", "period"), [(1, 3), (6, 2)])
@pytest.mark.parametrize(("kind", "engine"), CASES)
def test_every_connection_is_answered(
    process: Callable[..., Process], kind: str, engine: str, first: int, period: int
) -> None:
    running = process("tests.serving.services:Echo", engine, launch=failing(kind, first, period))
    with connect(running.address) as peer:
        ask(peer, b"first\n", b"first\n")
    running.log_lines(" done messages=1 ", count=1)
    before = descriptors(running)
    count = 1 + converse(running, engine)
    lines = running.log_lines(" done messages=1 ", count=count)
    assert len(lines) == count
    eventually(lambda: descriptors(running) <= before)
    running.signal()
    assert running.wait() == 0
    log = running.all_said()[0]
    assert log.count(" messages=") == count, "an access line with another ending"
