"""Batches of access lines: time of the write, and no line is lost."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from daemons.operating.logging.access_log import AccessLog
from daemons.operating.logging.lines import MAX_LINES
from daemons.operating.logging.logs import LINE_LIMIT, LineFormatter, Output
from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import Ending
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, talk
from tests.operating.writes import Writes


@pytest.fixture
def connection() -> Iterator[Connection]:
    with socket.socket() as peer:
        yield Connection(peer, ("127.0.0.1", 4242), 1.0)


@pytest.fixture
def log(writes: Writes) -> AccessLog:
    """A log with batches, made before the handlers of the tests are on the root logger."""
    return AccessLog("x", together=True)


def test_batch_is_written_at_four_hundred_lines(log: AccessLog, writes: Writes, connection: Connection) -> None:
    assert MAX_LINES == 400
    assert log.due == float("inf")
    log.log(connection)
    due = log.due
    assert due < float("inf")
    for _ in range(398):
        log.log(connection)
    assert writes.made == []
    assert log.due == due  # the first one's
    log.log(connection)
    assert log.due == float("inf")
    assert sum(count for _, count in writes.made) == 400
    for text, count in writes.made:
        lines = text.split("\n")
        assert len(lines) == count
        assert all(line.startswith("INFO daemons.x.access 127.0.0.1:4242 done messages=") for line in lines)
        assert len(text) < LINE_LIMIT
    assert len(writes.made) < 400 / 10


def test_flush_writes_all_pending_lines(log: AccessLog, writes: Writes, connection: Connection) -> None:
    for ending in (Ending.DONE, Ending.FAILED, Ending.SLOW):
        connection.ending = ending
        log.log(connection)
    log.flush()
    ((text, count),) = writes.made
    assert [line.split()[:4:3] for line in text.split("\n")] == [
        ["INFO", "done"],
        ["ERROR", "failed"],
        ["WARNING", "slow"],
    ]
    assert count == 3
    log.flush()
    assert len(writes.made) == 1


def test_line_without_batches_is_written_at_once(log: AccessLog, writes: Writes, connection: Connection) -> None:
    alone = AccessLog("x")
    for number in range(1, 4):
        alone.log(connection)
        assert len(writes.made) == number


def test_disabled_level_is_not_batched(log: AccessLog, writes: Writes, connection: Connection) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    log.configure()
    log.log(connection)
    assert log.due == float("inf")
    connection.ending = Ending.SLOW
    log.log(connection)
    log.flush()
    assert [count for _, count in writes.made] == [1]


@pytest.mark.parametrize("engine", ["pool", "loop"])
@pytest.mark.parametrize("count", [1, 30, 450])
def test_pending_lines_are_written_at_the_end(folder: Folder, engine: str, count: int) -> None:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    with Live(folder.path, "launcelot", "--engine", engine) as daemon:
        for _ in range(count):
            assert talk(daemon.port) == GRAIL
        assert daemon.stop() == 0
        lines = [line for line in daemon.out.splitlines() if ".access[" in line]
        assert len(lines) == count
        assert all(" done messages=1 received=19 sent=23 seconds=" in line for line in lines)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("%(message)s | %(message)s", r"(\S+ done messages=.*) \| \1"),
        ("%(relativeCreated)d %(threadName)s %(message)s", r"[1-9]\d* logger \S+ done messages=.*"),
        ("%(levelname)s", "INFO"),
    ],
)
def test_line_has_the_attributes_of_its_format(
    form: str, expected: str, connection: Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    output = Output()
    output.setFormatter(LineFormatter(form))
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [output]
    level = root.level
    root.setLevel(logging.INFO)
    try:
        log = AccessLog("x", together=True)
        connection.ending = Ending.DONE
        thread = threading.Thread(target=log.log, args=(connection,), name="logger")
        thread.start()
        thread.join()
        log.flush()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert re.fullmatch(expected + "\n", capfd.readouterr().out)
