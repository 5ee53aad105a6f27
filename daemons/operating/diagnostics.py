"""Lines on standard error: the ready line, and complaints of a daemon that cannot start."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import TextIO

from daemons.operating.logging.logs import FORMAT, LineFormatter

_LOGGER = "daemons.operating.lifecycle"


def say(line: str, level: int = logging.ERROR, failure: BaseException | None = None) -> None:
    """Write one line to standard error, in one write(2) as several processes may write there; before it the traceback
    of `failure`.  Where standard error is the log, the line has the form of all others there, with the time, and the
    traceback is in it.

    Where standard error cannot be written, as on a full disk, the line goes to standard output.  Raises nothing."""
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
    """Return whether standard error is a log: under supervisord, and where it is the same file or pipe as standard
    output, to which the log goes; but not on a terminal."""
    try:
        if os.isatty(2):
            return False
        return "SUPERVISOR_ENABLED" in os.environ or os.path.samestat(os.fstat(1), os.fstat(2))
    except OSError:
        return False


def _write(stream: TextIO | None, text: str) -> bool:
    """Return whether all of `text` could be written."""
    if stream is None:
        return False
    try:
        stream.flush()
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            stream.write(text)  # in place of the real one; it has no descriptor
            return True
        # Past the buffer, which would keep what cannot be written, and try again at the end of the process.
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]
    except (OSError, ValueError):
        return False
    return True
