"""``daemons run NAME --detach``: run in the background without supervisord, by python-daemon.

    daemons run NAME --detach    binds, waits for the ready line, prints it, and exits
      └─ the daemon              in a session of its own, in the project folder
           └─ the log writer     copies the output of the daemon and its workers to the log file, and rotates that

All processes write into one pipe, so that a single process writes and rotates the file.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from daemon import DaemonContext

from daemons.cli.outcome import Command, report
from daemons.operating import lifecycle
from daemons.operating.bound import Bound
from daemons.operating.config import ini
from daemons.operating.config.sections import Settings
from daemons.operating.logging import logs
from daemons.operating.logging.log_file import DropCount, LogFile, open_log, write_log
from daemons.operating.pidfile import AlreadyRunning, Pidfile
from daemons.serving import signals
from daemons.serving.guards.limits import Limits
from daemons.settings.complaints import ConfigurationError

#: Signals that the detached daemon ignores, since it has no terminal.  Without this map, DaemonContext would also
#: replace the handler of SIGTERM, which defers it until the daemon is ready (`signals.defer_stop`): connections in the
#: kernel's queue would be reset, or the signal be lost.
SIGNAL_MAP = {signal.SIGTSTP: None, signal.SIGTTIN: None, signal.SIGTTOU: None}

#: Seconds after drain_timeout that ``daemons stop`` waits for the end.
STOP_GRACE = 3.0


def pidfile_of(settings: Settings) -> Pidfile:
    return Pidfile(settings.run / f"{settings.name}.pid")


def log_of(settings: Settings) -> Path:
    """Return the log file of the detached daemon, which differs from the one that supervisord rotates."""
    return settings.base / "logs" / f"{settings.name}.detached.log"


def run(settings: Settings) -> int:
    """Start the daemon detached, and wait until it is ready; return the exit code of the start."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        # DaemonContext ends this process with os._exit after the fork of the daemon.
        os._exit(Command().carry_out(lambda: lifecycle.exit_code_of(settings.name, lambda: _detach(settings, write))))
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        # One line, not until end of file: workers, forked before the line is written, hold the pipe too.
        ready_line = pipe.readline()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not ready_line:
        if code == lifecycle.ENDED:
            report(f"{settings.name}: did not start; see {log_of(settings)}")
            return lifecycle.BUG
        return code
    report(ready_line.removesuffix("\n"))
    print(f"{settings.name} is detached: its pid in {pidfile_of(settings).path}, its log {log_of(settings)}")
    return lifecycle.ENDED


def stop(conf: Path, name: str, run: Path | None = None) -> int:
    """Send SIGTERM to the detached daemon, and wait for its end; return the exit code.

    Works also if the ini is wrong by now."""
    pidfile = Pidfile(ini.run_folder(conf, run) / f"{name}.pid")
    try:
        pid = pidfile.read() if pidfile.held() else None
        if pid is None:
            return _nothing_to_stop(conf, name, pidfile)
        signalled = _terminate(pidfile, pid)
    except PermissionError:
        pid = pidfile.read()
        if pid is None and not _belongs_to_another_user(pidfile.path):
            report(f"{name}: {pidfile.path}: permission denied")
            return lifecycle.SYSTEM_REFUSED
        process = str(pidfile.path) if pid is None else f"pid {pid}"
        report(f"{name}: {process} belongs to another user; only that user and root can stop it")
        return lifecycle.SYSTEM_REFUSED
    until = time.monotonic() + _drain_timeout(conf, name) + STOP_GRACE
    while pidfile.held():
        if time.monotonic() > until:
            reason = (
                f"pid {pid} has not ended in time"
                if signalled
                else f"pid {pid} in {pidfile.path} is not the process that holds its lock; no signal was sent"
            )
            report(f"{name}: {reason}")
            return lifecycle.BUG
        time.sleep(0.05)
    print(f"{name}: stopped")
    return lifecycle.ENDED


def _belongs_to_another_user(path: Path) -> bool:
    """Return whether a file is known to belong to another user."""
    try:
        return path.stat().st_uid != os.geteuid()
    except OSError:
        return False


def _terminate(pidfile: Pidfile, pid: int) -> bool:
    """Send SIGTERM to the process `pid`; return False if it does not exist, or is not the daemon of the file."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False  # killed, while its workers, which hold the lock too, are exiting
    try:
        # After the open of the pidfd: the pid cannot be reused between check and signal.
        if not pidfile.opened_by(pid):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGTERM)
        return True
    finally:
        os.close(process)


def _nothing_to_stop(conf: Path, name: str, pidfile: Pidfile) -> int:
    if name not in ini.names(conf):
        ini.read(conf, name)  # raises the complaint about an unknown name
    reason = "it is starting" if pidfile.held() else f"{pidfile.path} is not locked"
    report(f"{name}: not running detached ({reason}); under supervisord: supervisorctl stop {name}")
    return lifecycle.BUG


def _drain_timeout(conf: Path, name: str) -> float:
    try:
        return ini.read(conf, name).limits.drain_timeout
    except ConfigurationError:
        return Limits.drain_timeout


def _detach(settings: Settings, ready_pipe: int) -> int:
    pidfile = pidfile_of(settings)
    try:
        log_of(settings).parent.mkdir(parents=True, exist_ok=True)
        # Open the file now: the log writer, which opens it later, could not report a failure.
        os.close(open_log(log_of(settings)))
        pidfile.lock()
    except AlreadyRunning as error:
        report(f"{settings.name}: {error}")
        return lifecycle.SYSTEM_REFUSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        report(f"{settings.name}: {where}{(error.strerror or str(error)).lower()}")
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
            # DaemonContext closes every other descriptor.
            files_preserve=[ready_pipe, read, output, pidfile, *bound.sockets],
            stdout=output,
            stderr=output,
            signal_map=SIGNAL_MAP,
        )
        context.open()
    # From here on this is the daemon, without a terminal: errors go to the log.
    dropped = logs.writer_drops = DropCount()
    writer = os.fork()
    if writer == 0:
        pidfile.release()
        os.close(ready_pipe)
        bound.close_listeners()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        write_log(read, LogFile(log_of(settings), settings.log.size, settings.log.backups, dropped))
    os.close(read)
    logs.on_reopen.append(lambda: os.kill(writer, signals.REOPEN))
    try:
        return lifecycle.exit_code_of(settings.name, lambda: _serve(bound, ready_pipe))
    finally:
        context.close()


def _serve(bound: Bound, ready_pipe: int) -> int:
    # The variable is inherited if supervisord has started the shell of this command.  supervisord does not supervise
    # this daemon.
    os.environ.pop("SUPERVISOR_ENABLED", None)
    # Configure logging a second time: standard output is another file now.
    logs.configure(bound.settings.logging_ini)

    def announce(line: str) -> None:
        lifecycle.announce(line)
        os.write(ready_pipe, f"{line}\n".encode("utf-8", "backslashreplace"))
        os.close(ready_pipe)

    return lifecycle.serve(bound, announce)
