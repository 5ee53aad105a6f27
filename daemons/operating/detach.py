"""``daemons run NAME --detach``: life without supervisord, by python-daemon.

Three processes are left behind: the daemon, its log writer, and nothing else that is ours:

    daemons run NAME --detach    binds, waits for the ready line, prints it, and is gone
      └─ the daemon              its own session, its working folder the project's
           └─ the log writer     reads what the daemon and its workers print, and rotates the file

However many processes serve, one writes the file: they all print into one pipe.
"""

from __future__ import annotations

import fcntl
import logging.handlers
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from daemon import DaemonContext

from daemons.operating import ini, lifecycle, logs
from daemons.operating.complaints import ConfigurationError
from daemons.operating.lifecycle import Bound
from daemons.operating.settings import Settings
from daemons.serving import signals
from daemons.serving.guards.limits import Limits

#: Seconds beyond drain_timeout that ``daemons stop`` waits for the end.
STOP_GRACE = 3.0


class AlreadyRunning(Exception):
    """Another process holds the pidfile."""


class Pidfile:
    """``run/NAME.pid``, locked for as long as the daemon lives.

    The lock decides, not the file: the file of a daemon that was killed is not locked, hence stale, and
    is taken over.  A context manager, as `DaemonContext` wants it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def fileno(self) -> int:
        return self._descriptor

    def lock(self) -> None:
        """Take the lock, or raise `AlreadyRunning`; children inherit it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise AlreadyRunning(f"already running as pid {self.read()}, see {self.path}") from None
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    self._descriptor = descriptor
                    return
            # A daemon that was just ending has removed the file between our open and our lock.
            os.close(descriptor)

    def read(self) -> int | None:
        """The pid in the file, None if there is none."""
        try:
            return int(self.path.read_text("ascii"))
        except (OSError, ValueError):
            return None

    def held(self) -> bool:
        """Whether a process that lives holds the lock."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def __enter__(self) -> Pidfile:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After [drop] it may be beyond us; then the file stays, unlocked, hence stale.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Close this process's copy of the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def pidfile_of(settings: Settings) -> Pidfile:
    return Pidfile(settings.run / f"{settings.name}.pid")


def log_of(settings: Settings) -> Path:
    """The log of the detached daemon: not the file that supervisord rotates."""
    return settings.base / "logs" / f"{settings.name}.detached.log"


def run(settings: Settings) -> int:
    """Start the daemon detached, and wait until it accepts.  Returns the exit code of the start."""
    hear, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(hear)
        # DaemonContext ends this process with os._exit when it has forked the daemon.
        os._exit(lifecycle.reported(settings.name, lambda: _detach(settings, tell)))
    os.close(tell)
    with os.fdopen(hear, encoding="utf-8") as pipe:
        # Not to the end of the file: the workers, forked before the line is written, hold the pipe too.
        ready_line = pipe.readline()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not ready_line:
        if code == lifecycle.ENDED:
            print(f"{settings.name}: did not start; {log_of(settings)} says why", file=sys.stderr)
            return lifecycle.BUG
        return code
    print(ready_line, end="", file=sys.stderr)
    print(f"{settings.name} is detached: its pid in {pidfile_of(settings).path}, its log {log_of(settings)}")
    return lifecycle.ENDED


def stop(conf: Path, name: str, run: Path | None = None) -> int:
    """SIGTERM to the detached daemon, and wait for its end.  What its ini says by now matters little: a mistake
    in it must not keep the daemon that runs from being stopped."""
    pidfile = Pidfile(ini.run_folder(conf, run) / f"{name}.pid")
    pid = pidfile.read() if pidfile.held() else None
    if pid is None:
        return lifecycle.reported(name, lambda: _nothing_to_stop(conf, name, pidfile))
    try:
        with suppress(ProcessLookupError):  # killed, and its workers, which hold the lock too, are leaving
            os.kill(pid, signal.SIGTERM)
    except PermissionError:
        print(f"{name}: pid {pid} belongs to another user, who may stop it; so may root", file=sys.stderr)
        return lifecycle.SYSTEM_REFUSED
    until = time.monotonic() + _drain_timeout(conf, name) + STOP_GRACE
    while pidfile.held():
        if time.monotonic() > until:
            print(f"{name}: pid {pid} has not ended in time", file=sys.stderr)
            return lifecycle.BUG
        time.sleep(0.05)
    print(f"{name}: stopped")
    return lifecycle.ENDED


def _nothing_to_stop(conf: Path, name: str, pidfile: Pidfile) -> int:
    if name not in ini.names(conf):
        ini.read(conf, name)  # raises what is to be said of a name that nobody has
    reason = "it is only just starting" if pidfile.held() else f"{pidfile.path} is not held by anybody"
    print(
        f"{name}: not running detached ({reason}); under supervisord: supervisorctl stop {name}",
        file=sys.stderr,
    )
    return lifecycle.BUG


def _drain_timeout(conf: Path, name: str) -> float:
    try:
        return ini.read(conf, name).limits.drain_timeout
    except ConfigurationError:
        return Limits.drain_timeout


def _detach(settings: Settings, tell: int) -> int:
    pidfile = pidfile_of(settings)
    try:
        log_of(settings).parent.mkdir(parents=True, exist_ok=True)
        pidfile.lock()
    except (AlreadyRunning, OSError) as error:
        print(f"{settings.name}: {error}", file=sys.stderr, flush=True)
        return lifecycle.SYSTEM_REFUSED
    try:
        bound = lifecycle.prepare(settings)
    except BaseException:
        pidfile.__exit__(None, None, None)
        raise
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as output:
        context = DaemonContext(
            working_directory=str(settings.base),
            umask=0o022,
            pidfile=pidfile,
            detach_process=True,
            # It closes every other descriptor.
            files_preserve=[tell, read, output, pidfile, *bound.sockets],
            stdout=output,
            stderr=output,
        )
        context.open()
    # From here on this is the daemon: another pid, no terminal, and errors go to the log.
    if os.fork() == 0:
        pidfile.release()
        os.close(tell)
        bound.close_listeners()
        _write_log(read, log_of(settings), settings.log.size, settings.log.backups)
    os.close(read)
    try:
        return lifecycle.reported(settings.name, lambda: _serve(bound, tell))
    finally:
        context.close()


def _serve(bound: Bound, tell: int) -> int:
    # Standard output is another file now than when logging was set up.
    logs.configure(bound.settings.logging_ini)

    def announce(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        os.write(tell, f"{line}\n".encode())
        os.close(tell)

    return lifecycle.serve(bound, announce)


def _write_log(read: int, path: Path, size: int, backups: int) -> NoReturn:
    """The log writer: copy lines from `read` into a rotated file, until no process can write any more."""
    try:
        # It ends when its last writer has ended, and not before.
        signals.end()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=size, backupCount=backups, encoding="utf-8")
        with os.fdopen(read, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                handler.emit(logging.makeLogRecord({"msg": line.removesuffix("\n")}))
    finally:
        os._exit(lifecycle.ENDED)
