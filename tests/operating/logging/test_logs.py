"""Every event is one line and one write(2), for any text and any reader."""

from __future__ import annotations

import logging
import os
import pty
import re
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.operating.logging import logs
from daemons.operating.logging.logs import LINE_LIMIT, LineFormatter, Output
from daemons.settings.complaints import ConfigurationError

SHIPPED = Path(__file__).resolve().parents[3] / "conf" / "logging.ini"


def record(message: str, *arguments: object, failure: BaseException | None = None) -> logging.LogRecord:
    info = (type(failure), failure, failure.__traceback__) if failure is not None else None
    return logging.LogRecord("daemons.x", logging.ERROR, __file__, 1, message, arguments, info)


@given(text=st.text())
def test_an_event_is_one_printable_line_under_the_limit(text: str) -> None:
    for message in (text, text * 2000):
        line = LineFormatter("%(levelname)s %(message)s").format(record("%s", message))
        assert line.startswith("ERROR ")
        assert len(line.splitlines()) == 1
        assert len(line.encode("utf-8")) < LINE_LIMIT
        assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in line)


def _raise(depth: int, text: str) -> None:
    if depth:
        _raise(depth - 1, text)
    raise ValueError(text)


def test_a_traceback_is_on_its_line_with_the_reason_at_its_end() -> None:
    with pytest.raises(ValueError, match="the reason") as caught:
        _raise(0, "the reason\nof two lines")
    line = LineFormatter("%(message)s").format(record("peer: it failed", failure=caught.value))
    assert line.startswith(r"peer: it failed\nTraceback (most recent call last):\n  File ")
    assert line.endswith(r"ValueError: the reason\nof two lines")
    assert "\n" not in line


def test_a_long_line_loses_its_middle() -> None:
    with pytest.raises(ValueError, match="the reason") as caught:
        _raise(0, "x" * 9000 + "the reason")
    line = LineFormatter("%(message)s").format(record("peer: it failed", failure=caught.value))
    assert line.startswith("peer: it failed")
    assert line.endswith("the reason")
    assert " [...] " in line
    assert LINE_LIMIT - 64 < len(line) < LINE_LIMIT
    # Where a character is four octets, they are what counts.
    wide = LineFormatter("%(message)s").format(record("\U0001f409" * 9000))
    assert 64 < len(wide.encode()) < LINE_LIMIT


@pytest.fixture
def pipe() -> Iterator[tuple[int, Output]]:
    """Return the read end of a pipe, and an `Output` on the write end."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    output = Output(write)
    output.setFormatter(LineFormatter("%(message)s"))
    yield read, output
    for descriptor in (read, write):
        with open(descriptor, closefd=True):
            pass


def fill(output: Output) -> int:
    """Write until the pipe is full; returns how many lines it took."""
    count = 0
    while not output.dropped:
        output.emit(record(f"line {count} " + "x" * 1000))
        count += 1
    return count - 1


def drain(read: int) -> list[str]:
    data = b""
    while True:
        try:
            data += os.read(read, 1 << 16)
        except BlockingIOError:
            return data.decode().splitlines()


def test_full_pipe_does_not_block_and_dropped_lines_are_logged(pipe: tuple[int, Output]) -> None:
    read, output = pipe
    written = fill(output)
    for number in range(9):
        output.emit(record(f"lost {number}"))
    assert output.dropped == 10
    lines = drain(read)
    assert [line.split()[1] for line in lines] == [str(number) for number in range(written)]
    output.emit(record("after"))
    report, after = drain(read)
    assert re.fullmatch(r"dropped lines: 10 \(\d{4} bytes\)", report)
    assert after == "after"
    assert output.dropped == 0


def test_lines_dropped_by_a_closed_output_are_logged_by_the_next(pipe: tuple[int, Output]) -> None:
    read, output = pipe
    fill(output)
    output.close()  # as logging.config does at each reload
    drain(read)
    successor = Output(output.descriptor)
    successor.setFormatter(output.formatter)
    successor.emit(record("after"))
    assert re.fullmatch(r"dropped lines: 1 \(1\d{3} bytes\)\nafter", "\n".join(drain(read)))


def test_the_descriptor_stays_as_it_was_inherited(pipe: tuple[int, Output]) -> None:
    _, output = pipe
    assert os.get_blocking(output.descriptor)
    fill(output)
    assert os.get_blocking(output.descriptor)


def test_closed_pipe_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    output = Output(write)
    os.close(read)
    output.emit(record("without a reader"))
    output.emit(record("without a reader"))
    os.close(write)
    output.emit(record("to nowhere"))
    assert output.dropped == 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    output = Output(full)
    output.emit(record("to nowhere"))
    os.close(full)
    assert output.dropped == 1
    assert capfd.readouterr() == ("", "")


#: Bytes that the file takes: about twenty lines, and a part of one.
SPACE = 2050


def without_space(path: Path, lines: list[str], together: int, *, space_returns: bool) -> None:
    """In a child process, write `lines` to `path`, which takes `SPACE` bytes as RLIMIT_FSIZE of setrlimit(2) has it: a
    write beyond that is cut short, and the next one fails, as on a full disk."""
    before = Output.dropped_ever
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (SPACE, hard))
            output = Output(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
            output.setFormatter(LineFormatter("%(message)s"))
            for first in range(0, len(lines), together):
                output.write("\n".join(lines[first : first + together]))
                if first % 3 == 0:  # a reload: another output to the same file
                    formatter = output.formatter
                    output.close()
                    output = Output(output.descriptor)
                    output.setFormatter(formatter)
            if space_returns:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                output.report()
            assert output.dropped == 0 or not space_returns
            os._exit(Output.dropped_ever - before)
        finally:
            os._exit(255)
    dropped = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found = path.read_text().splitlines()
    whole = [line for line in found if line in lines]
    assert dropped < 255
    assert len(whole) + dropped == len(lines)
    assert len(whole) > 10
    if space_returns:
        (report,) = (line for line in found if line.startswith("dropped lines: "))
        assert report.startswith(f"dropped lines: {dropped} (")


@pytest.mark.parametrize("together", [1, 7, 400])
@pytest.mark.parametrize("space_returns", [True, False])
def test_full_disk_loses_no_line_uncounted(tmp_path: Path, together: int, space_returns: bool) -> None:
    lines = [f"line {number} " + "x" * (80 + number % 7) for number in range(100)]
    without_space(tmp_path / "log", lines, together, space_returns=space_returns)


def test_line_that_lacks_only_its_end_is_not_dropped(tmp_path: Path) -> None:
    lines = [f"{number:0>40}" for number in range(50, 100)] + ["x" * 40]
    assert SPACE % 41 == 0
    lines = ["y" * 41, *lines]  # so that the fiftieth line ends one byte beyond the space
    without_space(tmp_path / "log", lines, 1, space_returns=True)


def test_a_wrong_logging_call_is_one_line_too(pipe: tuple[int, Output], capfd: pytest.CaptureFixture[str]) -> None:
    read, output = pipe
    output.emit(record("%d %d", "one"))
    (line,) = drain(read)
    assert line.startswith("ERROR daemons.operating.logging.logs message could not be formatted: TypeError(")
    assert capfd.readouterr() == ("", "")


def test_the_lines_of_many_threads_are_not_mixed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        output = Output(file.fileno())
        output.setFormatter(LineFormatter("%(message)s"))
        threads = [
            threading.Thread(target=lambda: [output.handle(record(f"{'x' * 500} end")) for _ in range(200)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines.count(f"{'x' * 500} end") == len(lines) == 800
    assert output.dropped == 0


@pytest.mark.parametrize("path", [SHIPPED, None], ids=["conf/logging.ini", "without it"])
def test_loggers_made_before_are_not_silenced(path: Path | None, capfd: pytest.CaptureFixture[str]) -> None:
    early = logging.getLogger("daemons.tests.early")
    logs.configure(path)
    early.info("heard %s", "well")
    early.debug("not asked for")
    line = capfd.readouterr().out
    assert line.endswith(f" INFO daemons.tests.early[{os.getpid()}] heard well\n")
    assert len(line.splitlines()) == 1
    assert not early.disabled


def test_default_configuration_is_the_shipped_one(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    for path in (SHIPPED, None):
        logs.configure(path)
        logging.getLogger("daemons.tests.same").warning("the same")
        said.append(capfd.readouterr().out.partition(" WARNING ")[2])
        (handler,) = logging.getLogger().handlers
        assert type(handler) is Output
        assert type(handler.formatter) is LineFormatter
    assert said[0] == said[1] != ""


def test_a_level_of_one_daemon_changes_its_lines_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ini = tmp_path / "logging.ini"
    text = SHIPPED.read_text("utf-8").replace("[loggers]\nkeys = root\n", "[loggers]\nkeys = root, verbose\n")
    ini.write_text(text + "\n[logger_verbose]\nqualname = daemons.tests.verbose\nlevel = DEBUG\nhandlers =\n", "utf-8")
    logs.configure(ini)
    for name in ("verbose", "other"):
        logging.getLogger(f"daemons.tests.{name}").debug("of %s", name)
    (line,) = capfd.readouterr().out.splitlines()
    assert line.endswith("of verbose")
    logging.getLogger("daemons.tests.verbose").setLevel(logging.NOTSET)


def test_setting_up_twice_writes_once(capfd: pytest.CaptureFixture[str]) -> None:
    for path in (SHIPPED, None, None, SHIPPED):
        logs.configure(path)
    logging.getLogger("daemons.tests.once").warning("once")
    assert len(capfd.readouterr().out.splitlines()) == 1
    assert sys.exc_info() == (None, None, None)


def test_terminal_that_does_not_read_is_not_waited_for() -> None:
    ours, theirs = pty.openpty()
    try:
        output = Output(theirs)
        output.setFormatter(LineFormatter("%(message)s"))
        ended = threading.Event()

        def write() -> None:
            for _ in range(500):
                output.handle(record("x" * 1000))
            ended.set()

        threading.Thread(target=write, daemon=True).start()
        assert ended.wait(20)
        assert 0 < output.dropped < 500
    finally:
        os.close(ours)
        os.close(theirs)


def test_wrong_configuration_while_log_files_cannot_be_opened_leaves_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ini, own = tmp_path / "logging.ini", tmp_path / "own.log"
    text = SHIPPED.read_text("utf-8").replace("keys = output", "keys = output, own")
    text = text.replace("handlers = output", "handlers = output, own")
    ini.write_text(f"{text}\n[handler_own]\nclass = FileHandler\nargs = ({str(own)!r},)\n", "utf-8")
    try:
        logs.configure(ini)
        own.unlink()
        own.mkdir()
        ini.write_text("no configuration\n", "utf-8")
        with pytest.raises(ConfigurationError):
            logs.configure(ini)
        logging.getLogger("daemons.tests.left").warning("heard")
        said = capfd.readouterr()
        assert "log files could not be reopened: " in said.out
        assert "heard" in said.out
        assert said.err == ""
    finally:
        logs.configure(None)
