"""Log file of a detached daemon, and the process that writes it."""

from __future__ import annotations

import errno
import mmap
import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from daemons.serving import signals
from daemons.serving.waker import Waker

#: Bytes per read of the pipe: its capacity, pipe(7).
READ = 64 * 1024

#: Seconds between two attempts to report dropped lines while no other lines come.
RETRY = 1.0


class DropCount:
    """Number of dropped lines and of their bytes, in memory shared with processes forked later."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    @property
    def lines(self) -> int:
        return int(self._words[0])

    @property
    def octets(self) -> int:
        return int(self._words[1])

    def add(self, lines: int, octets: int) -> None:
        self._words[0] += lines
        self._words[1] += octets


def open_log(path: Path) -> int:
    """Open the log file at `path` for appending.  Raises `OSError`, also if root would follow a symbolic link.

    The user of [drop] may own the folder, and writes the log lines: through a link, root would append them to any
    file of the system."""
    # O_NONBLOCK: open(2) of a FIFO without a reader fails instead of waiting.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    if os.geteuid() != 0:
        return os.open(path, flags, 0o644)
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        reason = "a symbolic link, which root does not follow; link the folder instead"
        raise OSError(error.errno, reason, str(path)) from None


class LogFile:
    """Log file that is rotated at `size` bytes; ``path.1`` is the newest of `backups` old files.

    If the file is moved or removed, it is created again before the next line.  Lines that cannot be written are
    counted, and the count is written as soon as possible."""

    def __init__(self, path: Path, size: int, backups: int, dropped: DropCount) -> None:
        self._path = path
        self._limit = size
        self._backups = backups
        self._count = dropped
        #: Lines and bytes dropped and not reported yet.
        self.dropped = self._dropped_bytes = 0
        self._torn = False
        self._descriptor = -1
        self._identity = (0, 0)
        self._size = 0
        self.reopen()

    def reopen(self) -> None:
        """Open the file at its path, and create missing folders.  On failure, the open file stays in use."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            descriptor = open_log(self._path)
            self._close()
            self._descriptor = descriptor
            status = os.fstat(descriptor)
            self._identity, self._size = (status.st_dev, status.st_ino), status.st_size
            self._torn = False

    def write(self, line: bytes) -> None:
        """Write one line, given without line end."""
        self._follow()
        if self.dropped:
            self.report()
        self._rotate_for(len(line) + 1)
        written = self._write(line + b"\n")
        if written < len(line):
            self.dropped += 1
            self._dropped_bytes += len(line) + 1 - written
            self._count.add(1, len(line) + 1 - written)

    def report(self) -> None:
        """Write a line with the number of dropped lines and bytes."""
        now = time.time()
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        text = (
            f"{when},{int(now % 1 * 1000):03} WARNING {__name__}[{os.getpid()}] "
            f"dropped lines: {self.dropped} ({self._dropped_bytes} bytes)\n"
        )
        if self._write(text.encode()) == len(text):
            self.dropped = self._dropped_bytes = 0

    def _write(self, data: bytes) -> int:
        """Write `data`; return the number of bytes written."""
        head = b"\n" if self._torn else b""
        whole = head + data
        done = 0
        try:
            while done < len(whole):
                done += os.write(self._descriptor, whole[done:])
        except OSError:
            pass
        if done:
            self._torn = done < len(whole)
            self._size += done
        return max(0, done - len(head))

    def _follow(self) -> None:
        """Reopen the file if it is no longer at its path."""
        try:
            status = os.stat(self._path)
        except OSError:
            self.reopen()
        else:
            if (status.st_dev, status.st_ino) != self._identity:
                self.reopen()
            else:
                self._size = status.st_size  # it may have been truncated

    def _rotate_for(self, more: int) -> None:
        """Rotate the file if `more` bytes would exceed the limit."""
        if not self._size or self._size + more <= self._limit:
            return
        try:
            # Up to the first missing file, since `backups` may be very large.
            newest = 1
            while newest < self._backups and os.path.lexists(self._old(newest)):
                newest += 1
            for number in range(newest - 1, 0, -1):
                os.replace(self._old(number), self._old(number + 1))
            os.replace(self._path, self._old(1))
        except OSError:
            return  # the file grows if it cannot be renamed
        self.reopen()

    def _old(self, number: int) -> str:
        return f"{self._path}.{number}"

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def write_log(read: int, file: LogFile) -> NoReturn:
    """Run the log writer: copy lines from the pipe `read` to `file` until its last writer has closed it.

    SIGHUP and SIGUSR1 reopen the file; other signals are ignored.  Never returns."""
    try:
        waker = Waker()
        signals.install_handlers(waker)
        _copy(read, file, waker)
    finally:
        os._exit(0)


def _copy(read: int, file: LogFile, waker: Waker) -> None:
    held = b""
    while True:
        ready, _, _ = select.select([read, waker.fileno()], [], [], RETRY if file.dropped else None)
        if waker.fileno() in ready and {signals.REOPEN, signal.SIGHUP} & set(waker.receive()):
            file.reopen()
        if file.dropped:
            file.report()
        if read not in ready:
            continue
        data = os.read(read, READ)
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            file.write(_text(line))
        if held and (not data or len(held) > READ):
            file.write(_text(held))
            held = b""
        if not data:
            return


def _text(line: bytes) -> bytes:
    """Return the line, with invalid UTF-8 escaped as ``\\xff``."""
    return line.decode("utf-8", "backslashreplace").encode()
