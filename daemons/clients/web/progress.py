"""Progress bar of a download."""

from __future__ import annotations

import shutil
import sys
import time

#: Seconds until the bar is first drawn, and between updates.
PATIENCE, PAUSE = 1.0, 0.1

#: Characters of the bar.
WIDTH = 30

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Progress:
    """A progress bar on standard error if that is a terminal, drawn after `PATIENCE` seconds.

    `total` is the size of the file in bytes, None if it is unknown; `start` is the size of the part that was downloaded
    before.  As a context manager it erases the bar at the end."""

    def __init__(self, total: int | None, start: int = 0, *, wanted: bool = True) -> None:
        self._total = total
        self._start = self._received = start
        self._wanted = wanted and sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = self._began + PATIENCE
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def advance(self, count: int) -> None:
        """Count so many more received bytes, and redraw the bar if it is due."""
        self._received += count
        now = time.monotonic()
        if self._wanted and now >= self._next:
            self._next, self._drawn = now + PAUSE, True
            columns = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{self.line(now - self._began)[:columns]}\x1b[K")
            sys.stderr.flush()

    def line(self, seconds: float) -> str:
        """Return the text of the bar after so many seconds."""
        rate = (self._received - self._start) / seconds
        if not self._total:
            return f"{size(self._received)}, {size(rate)}/s"
        part = min(self._received / self._total, 1.0)
        bar = ("=" * int(part * WIDTH) + ">")[:WIDTH].ljust(WIDTH)
        left = f", {max(self._total - self._received, 0) / rate:.0f} s left" if rate else ""
        return f"{part:4.0%} [{bar}] {size(self._received)} of {size(self._total)}, {size(rate)}/s{left}"


def size(count: float) -> str:
    """Return a number of bytes with its unit, such as ``4.5 MiB``."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
