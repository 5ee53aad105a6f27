"""Lines that supervisord cannot write are counted, and reported in the log of their program."""

from __future__ import annotations

import errno
import io
import re
from pathlib import Path

import pytest
from supervisor import loggers

from daemons.operating.supervisord_log import count_dropped_lines


class Disk(io.RawIOBase):
    """A file on a disk that may be full."""

    def __init__(self) -> None:
        self.content = b""
        self.full = False

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.content += bytes(data)
        return len(data)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count dropped lines during a test."""
    for name in ("emit", "handleError"):
        monkeypatch.setattr(loggers.FileHandler, name, getattr(loggers.FileHandler, name))
    count_dropped_lines()


@pytest.mark.usefixtures("counting")
def test_written_and_dropped_lines_are_all_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = loggers.RotatingFileHandler(str(tmp_path / "x.log"), maxBytes=0)
    handler.close()
    disk = Disk()
    handler.stream = io.BufferedWriter(disk)
    handler.setFormat("%(message)s")
    log = loggers.Logger(handlers=[handler])
    number = 0
    for full in (False, True, False, True, False):
        disk.full = full
        for _ in range(300):
            log.info(b"".join(b"line %06d %s\n" % (number + each, b"x" * 50) for each in range(3)))
            number += 3
    found = re.findall(rb"(?m)^line (\d{6}) x{50}$", disk.content)
    assert len(found) == len(set(found))
    reports = re.findall(rb"WARNING \S+\[\d+\] dropped lines: (\d+) \((\d+) bytes\)\n", disk.content)
    assert len(reports) == 2
    assert len(found) + sum(int(lines) for lines, _ in reports) == number
    assert all(int(octets) == 63 * int(lines) for lines, octets in reports)
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.usefixtures("counting")
def test_lines_of_supervisord_itself_are_written_as_before(tmp_path: Path) -> None:
    handler = loggers.FileHandler(str(tmp_path / "x.log"))
    handler.setFormat("%(levelname)s %(message)s\n")
    log = loggers.Logger(handlers=[handler])
    log.info("spawned: 'zen' with pid 42")
    log.close()
    assert (tmp_path / "x.log").read_text() == "INFO spawned: 'zen' with pid 42\n"
