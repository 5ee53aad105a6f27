"""Lines on standard error: the ready line, and the errors of a daemon that cannot start."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import TextIO

from daemons.operating.logging.logs import FORMAT, LineFormatter

_LOGGER = "daemons.operating.lifecycle"


def report(line: str, level: int = logging.ERROR, failure: BaseException | None = None) -> None:
    """Write the traceback of `failure`, if it is given, and a line to standard error, with one write(2).

    If standard error is the log, both are formatted as one log line.  If standard error cannot be written, for example
    on a full disk, they go to standard output.  Raises nothing."""
    if goes_to_log():
        info = (type(failure), failure, failure.__traceback__) if failure is not None else None
        record = logging.LogRecord(_LOGGER, level, __file__, 0, line, (), info)
        text = LineFormatter(FORMAT).format(record)
    else:
        text = line if failure is None else "".join(traceback.format_exception(failure)) + line
    for stream in (sys.stderr, sys.stdout):
        if _write(stream, f"{text}\n"):
            return


def goes_to_log() -> bool:
    """Return whether standard error is the log: under supervisord, or if it is the same file as standard output.

    A terminal is not a log."""
    try:
        if os.isatty(2):
            return False
        return "SUPERVISOR_ENABLED" in os.environ or os.path.samestat(os.fstat(1), os.fstat(2))
    except OSError:
        return False


def _write(stream: TextIO | None, text: str) -> bool:
    """Write `text`; return whether all of it was written."""
    if stream is None:
        return False
    try:
        stream.flush()
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            stream.write(text)  # a replacement without a descriptor
            return True
        # Not through the buffer, which would retry at exit after a failed write.
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]
    except (OSError, ValueError):
        return False
    return True
