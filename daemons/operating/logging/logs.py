"""The logging that all daemons share: one event, one line, one write.

``conf/logging.ini`` names the two classes below.  Under supervisord the lines go to standard output,
which is a pipe; supervisord is the only writer of the file and rotates it.  Detached, the pipe leads to
`daemons.cli.detach.write_log` instead.
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

#: pipe(7): a write of up to PIPE_BUF octets, 4,096 on Linux, is atomic: the lines of several processes
#: are never mixed, and supervisord never reads half of one.
LINE_LIMIT = 4096

#: Octets of lines that are written to a file together: it takes any number, and never waits for a reader.
FILE_LIMIT = 64 * 1024

_CUT = " [...] "

#: The form of a line, as shipped.
FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"

#: What conf/logging.ini says as shipped.
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

#: The text of the configuration in force: what is gone back to when the next one is wrong.
_in_force: str | None = None


class LineFormatter(logging.Formatter):
    """Formats an event as one line; a traceback has its line ends escaped.

    A line over `LINE_LIMIT` octets loses its middle: the head says what and who, the tail of a traceback
    says why."""

    def format(self, record: logging.LogRecord) -> str:
        line = escape(super().format(record))
        size = len(line.encode("utf-8", "replace"))
        while size >= LINE_LIMIT:
            # Counted in characters, of which each is an octet or more.
            keep = max(64, len(line) - (size - LINE_LIMIT) - len(_CUT) - 8)
            line = line[: keep // 4] + _CUT + line[-(keep - keep // 4) :]
            size = len(line.encode("utf-8", "replace"))
        return line


class Output(logging.Handler):
    """Write each event with one write(2) to standard output, without ever waiting for a reader.

    A line that a full pipe, a reader that has gone or a full disk does not take is dropped and counted.  A line with
    the counts precedes the next one that gets through.
    """

    #: Lines dropped by all outputs of this process since it started.
    dropped_ever: ClassVar[int] = 0
    #: Of outputs that were closed, as at each reload, before they could report what they dropped: lines, bytes, and
    #: whether the last line is torn, by device and inode.  The next output to the same file goes on from it.
    _unreported: ClassVar[dict[tuple[int, int], tuple[int, int, bool]]] = {}

    def __init__(self, descriptor: int = 1) -> None:
        super().__init__()
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self._file = status.st_dev, status.st_ino
        #: Lines and bytes dropped and not reported yet; and whether the file may end with a part of a line, so that the
        #: next write begins with a line end.
        self.dropped, self.dropped_bytes, self._torn = Output._unreported.pop(self._file, (0, 0, False))
        #: Bytes of lines that may be written together.
        self.at_once = LINE_LIMIT
        self._poll: select.poll | None = None
        self._terminal = os.isatty(descriptor)
        # A file is always ready; a pipe, socket or terminal may not be.  The descriptor is inherited, so
        # it is not made non-blocking: that would change it for its other users too.
        if not stat.S_ISREG(status.st_mode):
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)
        else:
            self.at_once = FILE_LIMIT

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            # A bug in the call's arguments is a line too, not a traceback on another stream.
            line = f"ERROR {__name__} a message could not be formatted: {escape(repr(error))}"
        self.write(line)

    def write(self, text: str) -> None:
        """Write one or more lines, at most `at_once` bytes in all; count those that are not written."""
        data = text.encode("utf-8", "replace") + b"\n"
        # Also called from outside `handle`, by many threads at once, and a poll object is for one at a time.
        self.acquire()
        try:
            if self.dropped:
                self._report()
            written = self._write(data)
            if written < len(data):
                # A line of which only the end is missing gets it from the next write.
                lines = data.count(b"\n", written + (written > 0 and data[written] == 0x0A))
                self.dropped += lines
                self.dropped_bytes += len(data) - written
                Output.dropped_ever += lines
        finally:
            self.release()

    def report(self) -> None:
        """Write the line with the counts of dropped lines, if there are any and it gets through."""
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
            line = f"WARNING {__name__} {message}"  # the formatter is somebody else's, and needs more than this
        data = line.encode("utf-8", "replace") + b"\n"
        if self._write(data) == len(data):
            self.dropped = self.dropped_bytes = 0

    def _write(self, data: bytes) -> int:
        """Return how many bytes of `data` were written: fewer than all on a full disk, or where there is no reader."""
        head = b"\n" if self._torn else b""
        whole = head + data
        done = 0
        try:
            with self._not_waiting() as descriptor:
                while done < len(whole) and (self._poll is None or self._poll.poll(0)):
                    done += os.write(descriptor, whole[done:])
        except (OSError, RuntimeError):  # RuntimeError: another thread polls, "concurrent poll() invocation"
            pass
        # Another process that writes to the same file may have torn a line too, when this one could write nothing.
        self._torn = done < len(whole) and (self._poll is None or self._torn or done > 0)
        return max(0, done - len(head))

    @contextmanager
    def _not_waiting(self) -> Iterator[int]:
        """A descriptor to which no write waits: poll(2) says that a terminal has room when it has any, and a write of
        more than that would wait for the terminal to read."""
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


#: What else is opened again by `reopen`: the files that standard output leads to.
on_reopen: list[Callable[[], None]] = []

#: Of a detached daemon: the lines that its log writer could not write.
writer_drops: DropCount | None = None


def report_drops() -> None:
    """Have every output of the root logger report the lines that it dropped, now that they may get through again."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Output):
            handler.report()


def reopen() -> None:
    """Open the log files again, after somebody has moved them: that of standard output where a process of ours has
    opened it, and those of the handlers in logging.ini."""
    reopen_output()
    if _in_force is None:
        return
    if _apply_again(_in_force):
        log.info("log files opened again")


def reopen_output() -> None:
    """Open the file again that standard output leads to, where a process of ours has opened it."""
    for action in on_reopen:
        with suppress(OSError):
            action()


def configure(path: Path | None) -> bool:
    """Set up logging from the ini file at `path`, or, where that is None, the same as shipped.  Returns whether
    that is another configuration than before.  Raises `ConfigurationError`, and then leaves everything as it was."""
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
        reason = " ".join(str(error).split())  # of configparser's, several lines
        raise ConfigurationError([f"conf/logging.ini: {type(error).__name__}: {reason}"]) from error
    before, _in_force = _in_force, text
    return text != before


def _apply(text: str) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(text, "conf/logging.ini")
    if _in_force is not None:
        _forget(_in_force)
    # Loggers that modules made when they were imported must not go silent.
    logging.config.fileConfig(parser, disable_existing_loggers=False)


def _apply_again(text: str) -> bool:
    """Apply a configuration that was in force; return whether its log files could be opened again."""
    try:
        _apply(text)
    except Exception as error:
        # Some handlers may be closed by now: better all lines on standard output than some of them nowhere.
        _apply(_BUILT_IN)
        log.error("log files could not be opened again: %s; all lines go to standard output", error)
        return False
    return True


def _forget(text: str) -> None:
    """Make the loggers that `text` names as if it did not: fileConfig leaves alone what it is not told of."""
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
