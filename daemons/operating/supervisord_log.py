"""Lines that supervisord cannot write to the log of a program, for example because the disk is full: their number is
written to that log as soon as possible.

supervisord itself prints a traceback for each of them, to a standard error that is /dev/null when it runs in the
background.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from supervisor import loggers


class Dropped:
    """Lines and bytes of one log that were dropped and not reported yet."""

    def __init__(self) -> None:
        self.lines = self.octets = 0
        #: Whether the data before ended within a line.
        self.torn = False

    def add(self, data: bytes) -> None:
        self.lines += max(1, data.count(b"\n"))
        self.octets += len(data)


def count_dropped_lines() -> None:
    """Count the lines that the log files of supervisord's programs lose from now on, and report them there."""
    emit, handle_error = loggers.FileHandler.emit, loggers.FileHandler.handleError
    flush = loggers.FileHandler.flush
    dropped: WeakKeyDictionary[Any, Dropped] = WeakKeyDictionary()
    current: list[bytes] = []

    def counting_emit(self: Any, record: Any) -> None:
        if not isinstance(record.msg, bytes):  # a line of supervisord itself
            emit(self, record)
            return
        found = dropped.setdefault(self, Dropped())
        current.append(record.msg)
        try:
            if found.lines:
                _report(self.stream, found)
            before = found.lines
            emit(self, record)
            if found.lines == before:
                found.torn = not record.msg.endswith(b"\n")
        finally:
            current.pop()

    def counting_handle_error(self: Any) -> None:
        codes = {frame.f_code for frame, _ in traceback.walk_tb(sys.exc_info()[2])}
        # After a failed flush, the buffer still has the data; after a failed write, they are lost.
        if current and flush.__code__ not in codes:
            dropped[self].add(current[-1])
        handle_error(self)

    loggers.FileHandler.emit = counting_emit
    loggers.FileHandler.handleError = counting_handle_error


def _report(stream: Any, dropped: Dropped) -> None:
    """Write a line with the number of dropped lines and bytes, if that is possible."""
    now = time.time()
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    text = (
        f"{when},{int(now % 1 * 1000):03} WARNING {__name__}[{os.getpid()}] "
        f"dropped lines: {dropped.lines} ({dropped.octets} bytes)\n"
    )
    with suppress(OSError, ValueError):
        stream.flush()  # buffered lines come first
        stream.write((b"\n" if dropped.torn else b"") + text.encode())
        dropped.lines = dropped.octets = 0
