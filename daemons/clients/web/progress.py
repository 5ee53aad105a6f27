"""How far a download has come, for who looks on."""

from __future__ import annotations

import shutil
import sys
import time

#: Seconds before there is a bar at all, and between two looks of it.
PATIENCE, PAUSE = 1.0, 0.1

#: Characters of the bar.
WIDTH = 30

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Progress:
    """A line on standard error, if that is a terminal, for what takes longer than a second.  `total` is how many octets
    there will be, where that is known, and `start` how many there were before; in a ``with``, whose end wipes it."""

    def __init__(self, total: int | None, start: int = 0, *, wanted: bool = True) -> None:
        self._total = total
        self._start = self._came = start
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

    def came(self, octets: int) -> None:
        """So many more."""
        self._came += octets
        now = time.monotonic()
        if self._wanted and now >= self._next:
            self._next, self._drawn = now + PAUSE, True
            columns = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{self.line(now - self._began)[:columns]}\x1b[K")
            sys.stderr.flush()

    def line(self, seconds: float) -> str:
        """What it looks like after so many seconds."""
        rate = (self._came - self._start) / seconds
        if not self._total:
            return f"{size(self._came)}, {size(rate)}/s"
        part = min(self._came / self._total, 1.0)
        bar = ("=" * int(part * WIDTH) + ">")[:WIDTH].ljust(WIDTH)
        left = f", {max(self._total - self._came, 0) / rate:.0f} s left" if rate else ""
        return f"{part:4.0%} [{bar}] {size(self._came)} of {size(self._total)}, {size(rate)}/s{left}"


def size(octets: float) -> str:
    """``4.5 MiB``."""
    for unit in _UNITS:
        if octets < 1024 or unit == _UNITS[-1]:
            break
        octets /= 1024
    return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
