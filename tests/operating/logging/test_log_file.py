"""The file of a detached daemon's log: rotation, moved and removed files, a full disk."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from daemons.operating.logging.log_file import DropCount, LogFile

SIZE = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "x.log"


def open_log(path: Path, size: int = SIZE, backups: int = 3) -> LogFile:
    return LogFile(path, size, backups, DropCount())


def in_child(action: Callable[[], None]) -> None:
    """Do `action`, which closes nothing that it opens, in a child process; fail where it raises."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def harm_removed(path: Path) -> None:
    path.unlink()


def harm_moved(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


def harm_replaced(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.touch()


def harm_folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def harm_truncated(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("harm", [harm_removed, harm_moved, harm_replaced, harm_folder_removed, harm_truncated])
def test_next_line_is_in_the_file_at_the_path(path: Path, harm: Callable[[Path], None]) -> None:
    def write() -> None:
        file = open_log(path)
        for number in range(3):
            file.write(b"before %d" % number)
        harm(path)
        file.write(b"after")
        assert path.read_bytes() == b"after\n"
        assert file.dropped == 0

    in_child(write)


def test_file_is_rotated_before_it_is_too_large_and_old_ones_are_bounded(path: Path) -> None:
    def write() -> None:
        file = open_log(path, size=100)
        for number in range(100):
            file.write(b"line %03d, twenty-four b" % number)

    in_child(write)
    files = sorted(path.parent.iterdir())
    assert [each.name for each in files] == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
    assert all(each.stat().st_size <= 100 for each in files)
    lines = [line for each in (*reversed(files[1:]), files[0]) for line in each.read_text().splitlines()]
    assert [line[5:8] for line in lines] == [f"{number:03}" for number in range(100 - len(lines), 100)]


def test_path_that_cannot_be_opened_again_keeps_the_open_file(path: Path) -> None:
    def write() -> None:
        file = open_log(path)
        file.write(b"before")
        moved = path.parent.with_name("moved")
        path.parent.rename(moved)
        path.parent.write_text("a file where the folder should be")
        file.write(b"meanwhile")
        path.parent.unlink()
        file.write(b"after")
        assert (moved / path.name).read_bytes() == b"before\nmeanwhile\n"
        assert path.read_bytes() == b"after\n"

    in_child(write)


def test_fifo_without_a_reader_at_the_path_is_not_waited_for(path: Path) -> None:
    def write() -> None:
        file = open_log(path)
        file.write(b"before")
        moved = path.with_suffix(".moved")
        path.rename(moved)
        os.mkfifo(path)
        signal.alarm(10)  # kills, where open(2) waits
        file.write(b"meanwhile")
        path.unlink()
        file.write(b"after")
        assert moved.read_bytes() == b"before\nmeanwhile\n"
        assert path.read_bytes() == b"after\n"

    in_child(write)


@pytest.mark.parametrize("space", [0, 1, 21, 22, 23, 1000, 2200])
def test_full_disk_loses_no_line_uncounted(path: Path, space: int) -> None:
    """RLIMIT_FSIZE of setrlimit(2) cuts a write short as a full disk does."""

    def write() -> None:
        file = open_log(path)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (space, hard))
        for number in range(100):
            file.write(b"line %03d, 21 bytes.." % number)
        dropped = file.dropped
        assert file._count.lines == dropped  # what `daemons stats` adds
        # A missing line end is not lost: the next write begins with it.
        assert 100 * 21 - path.stat().st_size - file._count.octets in (0, 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        if dropped:
            file.report()
        file.write(b"after")
        lines = path.read_text().splitlines()
        whole = [line for line in lines if line.endswith(", 21 bytes..")]
        assert len(whole) + dropped == 100
        assert lines[-1] == "after"
        if dropped:
            assert f" dropped lines: {dropped} (" in lines[-2]

    in_child(write)


@pytest.mark.timeout(30)
def test_backups_may_be_far_more_than_there_are_files(path: Path) -> None:
    def write() -> None:
        file = open_log(path, size=100, backups=999_999_999)
        for number in range(30):
            file.write(b"%050d" % number)

    in_child(write)
    lines = [
        int(line)
        for each in sorted(path.parent.iterdir(), key=_age, reverse=True)
        for line in each.read_bytes().split()
    ]
    assert lines == list(range(30))


def _age(path: Path) -> int:
    number = path.suffix.removeprefix(".")
    return int(number) if number.isdecimal() else 0
