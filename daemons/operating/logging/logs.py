"""Logging of all daemons: one line for each event, with one write(2).

``conf/logging.ini`` names the two classes below.  Under supervisord, standard output is a pipe to supervisord, which
writes and rotates the file.  For a detached daemon, it is a pipe to `daemons.operating.logging.log_file.write_log`.
"""

from __future__ import annotations

import configparser
import logging
import logging.config
import os
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from daemons.operating.config.sources import read_text
from daemons.printable import escape
from daemons.settings.complaints import ConfigurationError

if TYPE_CHECKING:
    from daemons.operating.logging.log_file import DropCount

log = logging.getLogger(__name__)

#: Maximum bytes of a line: writes of up to PIPE_BUF bytes, 4,096 on Linux, are atomic, pipe(7), so that lines of
#: several processes are not interleaved.
LINE_LIMIT = 4096

#: Maximum bytes of lines in one write to a file, which never blocks on a reader.
FILE_LIMIT = 64 * 1024

_CUT = " [...] "

#: Default format of a line.
FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"

#: Default of conf/logging.ini.
_BUILT_IN = f"""
[loggers]
keys = root

[handlers]
keys = output

[formatters]
keys = line

[logger_root]
level = INFO
handlers = output

[handler_output]
class = daemons.operating.logging.logs.Output
formatter = line
args = ()

[formatter_line]
class = daemons.operating.logging.logs.LineFormatter
format = {FORMAT}
"""

#: Text of the configuration in force, restored if the next one is wrong.
_in_force: str | None = None


class LineFormatter(logging.Formatter):
    """Formats an event as one line, with escaped line ends in a traceback.

    A line longer than `LINE_LIMIT` bytes loses its middle: the head has the event, the tail of a traceback its
    cause."""

    def format(self, record: logging.LogRecord) -> str:
        line = escape(super().format(record))
        size = len(line.encode("utf-8", "replace"))
        while size >= LINE_LIMIT:
            # In characters, each of which is one byte or more.
            keep = max(64, len(line) - (size - LINE_LIMIT) - len(_CUT) - 8)
            line = line[: keep // 4] + _CUT + line[-(keep - keep // 4) :]
            size = len(line.encode("utf-8", "replace"))
        return line


class Output(logging.Handler):
    """Handler that writes each event with one write(2) to standard output, and never waits for a reader.

    A line that cannot be written, to a full pipe, a closed pipe or a full disk, is dropped and counted.  The count is
    logged before the next line that can be written.
    """

    #: Lines and bytes dropped by all outputs of this process since it started.
    dropped_ever: ClassVar[int] = 0
    dropped_bytes_ever: ClassVar[int] = 0
    #: (device, inode) → dropped lines, dropped bytes, and whether the last line is torn, of outputs closed before they
    #: could report it, for example at a reload.  The next output to the same file continues.
    _unreported: ClassVar[dict[tuple[int, int], tuple[int, int, bool]]] = {}

    def __init__(self, descriptor: int = 1) -> None:
        super().__init__()
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self._file = status.st_dev, status.st_ino
        #: Dropped lines and bytes not reported yet; and whether the file may end with a partial line, so that the next
        #: write begins with a line end.
        self.dropped, self.dropped_bytes, self._torn = Output._unreported.pop(self._file, (0, 0, False))
        #: Maximum bytes per `write`.
        self.at_once = LINE_LIMIT
        self._poll: select.poll | None = None
        self._terminal = os.isatty(descriptor)
        # A pipe, socket or terminal may not be ready.  O_NONBLOCK is not set, because the open file description is
        # shared with other processes.
        if not stat.S_ISREG(status.st_mode):
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)
        else:
            self.at_once = FILE_LIMIT

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            # Wrong arguments of a logging call are one line, not a traceback on another stream.
            line = f"ERROR {__name__} message could not be formatted: {escape(repr(error))}"
        self.write(line)

    def write(self, text: str) -> None:
        """Write one or more lines, at most `at_once` bytes in total; count dropped lines."""
        data = text.encode("utf-8", "replace") + b"\n"
        # Lock: called outside of `handle` by many threads, and a poll object allows one call at a time.
        self.acquire()
        try:
            if self.dropped:
                self._report()
            written = self._write(data)
            if written < len(data):
                # A line that lacks only its line end is complete with the next write.
                lines = data.count(b"\n", written + (written > 0 and data[written] == 0x0A))
                self.dropped += lines
                self.dropped_bytes += len(data) - written
                Output.dropped_ever += lines
                Output.dropped_bytes_ever += len(data) - written
        finally:
            self.release()

    def report(self) -> None:
        """Try to write a line with the number of dropped lines, if any."""
        if self.dropped:
            self.acquire()
            try:
                self._report()
            finally:
                self.release()

    def close(self) -> None:
        self.acquire()
        try:
            self._report()
            if self.dropped or self._torn:
                lines, size, torn = Output._unreported.get(self._file, (0, 0, False))
                Output._unreported[self._file] = lines + self.dropped, size + self.dropped_bytes, torn or self._torn
                self.dropped = self.dropped_bytes = 0
                self._torn = False
        finally:
            self.release()
        super().close()

    def _report(self) -> None:
        if not self.dropped:
            return
        message = f"dropped lines: {self.dropped} ({self.dropped_bytes} bytes)"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (), None)
        try:
            line = self.format(record)
        except Exception:
            line = f"WARNING {__name__} {message}"  # a foreign formatter may need other attributes
        data = line.encode("utf-8", "replace") + b"\n"
        if self._write(data) == len(data):
            self.dropped = self.dropped_bytes = 0

    def _write(self, data: bytes) -> int:
        """Write `data`; return the number of bytes written, less than all on a full disk or without a reader."""
        head = b"\n" if self._torn else b""
        whole = head + data
        done = 0
        try:
            with self._nonblocking() as descriptor:
                while done < len(whole) and (self._poll is None or self._poll.poll(0)):
                    done += os.write(descriptor, whole[done:])
        except (OSError, RuntimeError):  # RuntimeError: another thread polls, "concurrent poll() invocation"
            pass
        # If nothing was written to a full file, another process may have torn a line.
        self._torn = done < len(whole) and (self._poll is None or self._torn or done > 0)
        return max(0, done - len(head))

    @contextmanager
    def _nonblocking(self) -> Iterator[int]:
        """Yield a descriptor whose writes do not block.

        poll(2) reports a terminal as writable with any free space, and a longer write would block."""
        opened = -1
        if self._terminal:
            with suppress(OSError):  # it may belong to another user, as after su(1)
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                opened = os.open(f"/proc/self/fd/{self.descriptor}", flags)
        try:
            yield self.descriptor if opened < 0 else opened
        finally:
            if opened >= 0:
                os.close(opened)


#: Actions of `reopen_output`, to reopen the file of standard output.
on_reopen: list[Callable[[], None]] = []

#: Lines dropped by the log writer of a detached daemon.
writer_drops: DropCount | None = None


def _leave_report_to_parent() -> None:
    """In a forked child, forget the dropped lines that the parent will report."""
    Output._unreported.clear()
    for reference in logging._handlerList:  # type: ignore[attr-defined]  # every handler, as weak references
        if isinstance(output := reference(), Output) and output.dropped:
            output.dropped = output.dropped_bytes = 0


os.register_at_fork(after_in_child=_leave_report_to_parent)


def report_drops() -> None:
    """Try to log the number of dropped lines of each output of the root logger."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Output):
            handler.report()


def reopen() -> None:
    """Reopen the log files, for log rotation: that of standard output, and those of handlers in logging.ini."""
    reopen_output()
    if _in_force is None:
        return
    if _apply_again(_in_force):
        log.info("log files reopened")


def reopen_output() -> None:
    """Reopen the file of standard output, if a process of the suite has opened it."""
    for action in on_reopen:
        with suppress(OSError):
            action()


def configure(path: Path | None) -> bool:
    """Configure logging from the ini file at `path`; None for the default.  Return whether the configuration changed.

    Raises `ConfigurationError`, and then keeps the former configuration."""
    global _in_force
    try:
        text = _BUILT_IN if path is None else read_text(path) or ""
        try:
            _apply(text)
        except BaseException:
            if _in_force is not None:
                _forget(text)
                _apply_again(_in_force)
            raise
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:  # fileConfig evaluates the file, so it can raise anything
        reason = " ".join(str(error).split())  # messages of configparser have several lines
        raise ConfigurationError([f"conf/logging.ini: {type(error).__name__}: {reason}"]) from error
    before, _in_force = _in_force, text
    return text != before


def _apply(text: str) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(text, "conf/logging.ini")
    if _in_force is not None:
        _forget(_in_force)
    # Loggers created at import must stay enabled.
    logging.config.fileConfig(parser, disable_existing_loggers=False)


def _apply_again(text: str) -> bool:
    """Apply a former configuration again; return whether its log files could be opened."""
    try:
        _apply(text)
    except Exception as error:
        # Some handlers may be closed already, and would lose lines.
        _apply(_BUILT_IN)
        log.error("log files could not be reopened: %s; all lines go to standard output", error)
        return False
    return True


def _forget(text: str) -> None:
    """Reset the loggers that `text` names, since fileConfig does not change loggers that it does not name."""
    parser = configparser.RawConfigParser(strict=False)
    with suppress(configparser.Error):
        parser.read_string(text)
    for section in parser.sections():
        if name := parser[section].get("qualname") if section.startswith("logger_") else None:
            logger = logging.getLogger(name)
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
            for handler in logger.handlers[:]:
                logger.removeHandler(handler)
