"""Running daemons for tests, in this process or as separate processes.

Nothing here sleeps: each function waits for a log line or the end of a process, and fails after `DEADLINE` seconds."""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Protocol

from daemons.operating.logging.access_log import AccessLog
from daemons.serving.engines import stream_server
from daemons.serving.guards.limits import Limits
from daemons.serving.server import Server
from tests.leaks import KEPT_CHILDREN, KEPT_DESCRIPTORS, KEPT_THREADS
from tests.serving.peers import DEADLINE, eventually

ROOT = Path(__file__).parents[2]

READY = re.compile(r"(\S+) ready (.+) engine=(\w+) processes=(\d+) pid=(\d+)")

#: An access line without the formatter's prefix.
ACCESS = re.compile(r"(\S+) (\w+) messages=(\d+|-) received=(\d+|-) sent=(\d+|-) seconds=\d+\.\d+(?: reason=.+)?$")


class Running(Protocol):
    """A running daemon, in this process or another."""

    address: Any

    def log_line(self, *texts: str) -> str:
        """Wait for the first log line that contains all of these texts, and return it."""

    def close(self) -> None:
        """Stop the daemon, and check that it ended cleanly."""


def access_of(running: Running, peer: str) -> tuple[str, str]:
    """Return the ending and the number of messages in a peer's access line."""
    match = ACCESS.search(running.log_line(f"{peer} ", " messages="))
    assert match, "not an access line"
    return match[2], match[3]


class Within:
    """A server in a thread of this process."""

    def __init__(
        self,
        engine: str | type[Server],
        handler: type[socketserver.BaseRequestHandler],
        limits: Limits | None = None,
        address: Any = ("127.0.0.1", 0),
    ) -> None:
        kind: type[Server] = stream_server(engine) if isinstance(engine, str) else engine
        self._lines = _Lines()
        self._log = logging.getLogger("daemons")
        self._level = self._log.level
        self._log.setLevel(logging.INFO)
        self._log.addHandler(self._lines)
        self.server = kind(address, handler)
        self.server.limits = limits or Limits()
        self.server.log_to(AccessLog("within", requests="combined"))
        self.address = self.server.server_address
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def log_line(self, *texts: str) -> str:
        return self._lines.wait_for(texts)

    @property
    def lines(self) -> list[str]:
        """The log lines so far."""
        return list(self._lines.lines)

    def expect_no_connections(self) -> None:
        """Wait until no connection is open, and check that the connection counter is empty."""
        eventually(lambda: self.server.active == 0)
        assert self.server._connections_per_peer._counts == {}

    @property
    def alive(self) -> bool:
        """Whether the loop is running."""
        return self._thread.is_alive()

    def close(self) -> None:
        alive = self.alive
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
        self._log.removeHandler(self._lines)
        self._log.setLevel(self._level)
        assert alive, "the loop had ended"


class _Lines(logging.Handler):
    """Log handler that keeps all lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._news = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._news:
            self.lines.append(self.format(record))
            self._news.notify_all()

    def wait_for(self, texts: Iterable[str]) -> str:
        with self._news:
            assert self._news.wait_for(lambda: _first(self.lines, texts), DEADLINE), self.lines
            return _first(self.lines, texts) or ""


class Process:
    """``daemons run`` of a service or handler in a separate process, under -X dev."""

    def __init__(
        self,
        folder: Path,
        service: str,
        engine: str,
        *settings: str,
        key: str = "service",
        processes: int = 1,
        launch: Callable[[list[str]], list[str]] = lambda command: command,
    ) -> None:
        conf = folder / "conf"
        conf.mkdir()
        conf.joinpath("knight.ini").write_text(f"[daemon]\n{key} = {service}\nport = 0\n")
        command = [sys.executable, "-X", "dev", "-m", "daemons", "run", "knight", "--conf", str(conf)]
        command += ["--engine", engine, "--processes", str(processes)]
        command += [word for setting in settings for word in ("--set", setting)]
        self.process = subprocess.Popen(
            launch(command),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._out, self._err = _Pipe(self.process.stdout), _Pipe(self.process.stderr)
        self.address: Any = None

    def ready(self) -> Process:
        """Wait until the daemon is ready, and return self."""
        match = READY.fullmatch(self._err.wait_for([" ready "]))
        assert match, "not a ready line"
        assert int(match[5]) == self.process.pid
        host, _, port = match[2].partition("://")[2].rpartition(":")
        self.address = (host, int(port))
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    def keep(self) -> None:
        """Let the process outlive the test in which it was started."""
        KEPT_CHILDREN.add(self.pid)
        self._out.keep()
        self._err.keep()

    def forget(self) -> None:
        """Discard the log so far, which belongs to another test."""
        self._out.forget()

    def log_line(self, *texts: str) -> str:
        return self._out.wait_for(texts)

    def log_lines(self, *texts: str, count: int) -> list[str]:
        """Wait for `count` lines that contain all of these texts, and return them."""
        return self._out.wait_for_many(texts, count)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def insist(self) -> None:
        """Send SIGTERM repeatedly until the process has ended."""

        def ended() -> bool:
            self.signal()
            return self.process.poll() is not None

        eventually(ended)

    def wait(self) -> int:
        """Wait for the end of the process, and return its exit code."""
        return self.process.wait(DEADLINE)

    def all_said(self) -> tuple[str, str]:
        """Wait for the end, and return the log, and standard error without the ready line."""
        self._out.read_on()
        self._err.read_on()
        return "\n".join(self._out.lines), "\n".join(line for line in self._err.lines if not READY.fullmatch(line))

    def close(self) -> None:
        """Stop the process, and check its exit code and that standard error has only the ready line: no traceback, and
        none of the warnings of -X dev."""
        try:
            if self.process.poll() is None:
                self.signal()
                assert self.wait() == 0
            assert self.all_said()[1] == ""
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the process, and close its pipes."""
        self.process.kill()
        self.process.wait()
        KEPT_CHILDREN.discard(self.pid)
        self._out.close()
        self._err.close()


class _Pipe:
    """The lines read from a pipe. A thread drains it, so that a daemon never blocks on a test.

    A larger pipe would do for most logs, but an ordinary user may have few of those (pipe-user-pages-soft, pipe(7))."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._rest = b""
        self._ended = False
        self._changed = threading.Condition()
        self._stop = os.eventfd(0)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._drain, name=f"reader of descriptor {pipe.fileno()}")
        self._thread.start()

    def keep(self) -> None:
        """Let the pipe outlive the test in which it was opened."""
        KEPT_DESCRIPTORS.update((self._pipe.fileno(), self._stop))
        KEPT_THREADS.add(self._thread)

    def forget(self) -> None:
        with self._changed:
            while select.select([self._pipe], [], [], 0)[0] and self._read():
                pass
            self.lines.clear()

    def wait_for(self, texts: Iterable[str]) -> str:
        return self.wait_for_many(texts, 1)[0]

    def wait_for_many(self, texts: Iterable[str], count: int) -> list[str]:
        texts = list(texts)

        def found() -> list[str]:
            return [line for line in self.lines if _has(line, texts)]

        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(found()) >= count, DEADLINE)
            assert len(found()) >= count, f"{texts} not in {self.lines}"
            return found()

    def read_on(self) -> None:
        """Wait for the end of file: all processes have closed the other end."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, DEADLINE), f"the pipe is still open: {self.lines}"

    def close(self) -> None:
        if not self._pipe.closed:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            KEPT_DESCRIPTORS.difference_update((self._pipe.fileno(), self._stop))
            KEPT_THREADS.discard(self._thread)
            self._pipe.close()
            os.close(self._stop)

    def _drain(self) -> None:
        ends = [self._pipe.fileno(), self._stop]
        while not self._ended and self._stop not in select.select(ends, [], [])[0]:
            with self._changed:
                # `forget` may have read the data meanwhile.
                if select.select([self._pipe], [], [], 0)[0]:
                    self._read()
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read(self) -> bool:
        """Read once; the caller holds the lock. Return whether there may be more."""
        data = os.read(self._pipe.fileno(), 65536)
        if not data:
            self._ended = True
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode() for line in lines]
        return bool(data)


def _has(line: str, texts: Iterable[str]) -> bool:
    return all(text in line for text in texts)


def _first(lines: Iterable[str], texts: Iterable[str]) -> str | None:
    return next((line for line in lines if _has(line, texts)), None)
