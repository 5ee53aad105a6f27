"""The logging that all daemons share: one event, one line, one write.

``conf/logging.ini`` names the two classes below.  Under supervisord the lines go to standard output,
which is a pipe; supervisord is the only writer of the file and rotates it.  Detached, the pipe leads to
`daemons.operating.detach.write_log` instead.
"""

from __future__ import annotations

import configparser
import logging
import logging.config
import os
import select
import stat
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from daemons.operating.complaints import ConfigurationError
from daemons.printable import escape

#: pipe(7): a write of up to PIPE_BUF octets, 4,096 on Linux, is atomic: the lines of several processes
#: are never mixed, and supervisord never reads half of one.
LINE_LIMIT = 4096

#: Octets of lines that are written to a file together: it takes any number, and never waits for a reader.
FILE_LIMIT = 64 * 1024

_CUT = " [...] "

#: What conf/logging.ini says as shipped.
_BUILT_IN = """
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
class = daemons.operating.logs.Output
formatter = line
args = ()

[formatter_line]
class = daemons.operating.logs.LineFormatter
format = %(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s
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
    """Writes each event with one write(2) to standard output, and never waits for its reader.

    A reader that has stopped reading, or a full disk, must not stop the daemon: the event is dropped
    and counted, and the next that gets through is preceded by a line that tells how many were.
    """

    #: By all outputs of this process, since it began.
    dropped_ever: ClassVar[int] = 0
    #: By outputs that were closed before they could say so, as at each reload: the next one to the same file, known by
    #: device and inode, says it.
    _untold: ClassVar[dict[tuple[int, int], int]] = {}

    def __init__(self, descriptor: int = 1) -> None:
        super().__init__()
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self._file = status.st_dev, status.st_ino
        self.dropped = Output._untold.pop(self._file, 0)
        #: Octets of lines that may be written together.
        self.at_once = LINE_LIMIT
        self._poll: select.poll | None = None
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

    def write(self, text: str, lines: int = 1) -> None:
        """Write `text`, of as many `lines` (under `LINE_LIMIT` octets in all), or count them as dropped."""
        # Also called from outside `handle`, by many threads at once, and a poll object is for one at a time.
        self.acquire()
        try:
            self._tell()
            if not self._write(text):
                self.dropped += lines
                Output.dropped_ever += lines
        finally:
            self.release()

    def close(self) -> None:
        self.acquire()
        try:
            self._tell()
            if self.dropped:
                Output._untold[self._file] = Output._untold.get(self._file, 0) + self.dropped
                self.dropped = 0
        finally:
            self.release()
        super().close()

    def _tell(self) -> None:
        if self.dropped and self._write(f"WARNING {__name__} dropped lines: {self.dropped}"):
            self.dropped = 0

    def _write(self, line: str) -> bool:
        try:
            if self._poll is not None and not self._poll.poll(0):
                return False
            os.write(self.descriptor, line.encode("utf-8", "replace") + b"\n")
        except (OSError, RuntimeError):  # RuntimeError: another thread polls, "concurrent poll() invocation"
            return False
        return True


def configure(path: Path | None) -> bool:
    """Set up logging from the ini file at `path`, or, where that is None, the same as shipped.  Returns whether
    that is another configuration than before.  Raises `ConfigurationError`, and then leaves everything as it was."""
    global _in_force
    try:
        text = _BUILT_IN if path is None else path.read_text("utf-8")
        try:
            _apply(text)
        except BaseException:
            if _in_force is not None:
                _forget(text)
                _apply(_in_force)
            raise
    except Exception as error:  # fileConfig evaluates the file, so it can raise anything
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
