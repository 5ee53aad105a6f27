"""``daemons run NAME --detach``: life without supervisord, by python-daemon.

Three processes are left behind: the daemon, its log writer, and nothing else that is ours:

    daemons run NAME --detach    binds, waits for the ready line, prints it, and is gone
      └─ the daemon              its own session, its working folder the project's
           └─ the log writer     reads what the daemon and its workers print, and rotates the file

However many processes serve, one writes the file: they all print into one pipe.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from daemon import DaemonContext

from daemons.cli.outcome import Command, say
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

#: Seconds beyond drain_timeout that ``daemons stop`` waits for the end.
STOP_GRACE = 3.0


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
        os._exit(Command().carry_out(lambda: lifecycle.reported(settings.name, lambda: _detach(settings, tell))))
    os.close(tell)
    with os.fdopen(hear, encoding="utf-8") as pipe:
        # Not to the end of the file: the workers, forked before the line is written, hold the pipe too.
        ready_line = pipe.readline()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not ready_line:
        if code == lifecycle.ENDED:
            say(f"{settings.name}: did not start; {log_of(settings)} says why")
            return lifecycle.BUG
        return code
    say(ready_line.removesuffix("\n"))
    print(f"{settings.name} is detached: its pid in {pidfile_of(settings).path}, its log {log_of(settings)}")
    return lifecycle.ENDED


def stop(conf: Path, name: str, run: Path | None = None) -> int:
    """Send SIGTERM to the detached daemon, and wait for its end; return the exit code.  The ini as it is now matters
    little: a mistake in it must not keep a running daemon from being stopped."""
    pidfile = Pidfile(ini.run_folder(conf, run) / f"{name}.pid")
    try:
        pid = pidfile.read() if pidfile.held() else None
        if pid is None:
            return _nothing_to_stop(conf, name, pidfile)
        signalled = _terminate(pidfile, pid)
    except PermissionError:
        said = pidfile.read()
        process = str(pidfile.path) if said is None else f"pid {said}"
        say(f"{name}: {process} belongs to another user, who may stop it; so may root")
        return lifecycle.SYSTEM_REFUSED
    until = time.monotonic() + _drain_timeout(conf, name) + STOP_GRACE
    while pidfile.held():
        if time.monotonic() > until:
            reason = (
                f"pid {pid} has not ended in time"
                if signalled
                else f"another process than pid {pid} of {pidfile.path} holds its lock; nothing was signalled"
            )
            say(f"{name}: {reason}")
            return lifecycle.BUG
        time.sleep(0.05)
    print(f"{name}: stopped")
    return lifecycle.ENDED


def _terminate(pidfile: Pidfile, pid: int) -> bool:
    """Send SIGTERM to the daemon whose pid is in the file; return False where that process is none, or another one."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False  # killed, while its workers, which hold the lock too, are leaving
    try:
        # In this order: the pid cannot pass to another process between the look and the signal.
        if not pidfile.opened_by(pid):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGTERM)
        return True
    finally:
        os.close(process)


def _nothing_to_stop(conf: Path, name: str, pidfile: Pidfile) -> int:
    if name not in ini.names(conf):
        ini.read(conf, name)  # raises what is to be said of a name that nobody has
    reason = "it is only just starting" if pidfile.held() else f"{pidfile.path} is not held by anybody"
    say(f"{name}: not running detached ({reason}); under supervisord: supervisorctl stop {name}")
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
        # The log writer has nowhere to report that it cannot open its file.
        os.close(open_log(log_of(settings)))
        pidfile.lock()
    except AlreadyRunning as error:
        say(f"{settings.name}: {error}")
        return lifecycle.SYSTEM_REFUSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{settings.name}: {where}{(error.strerror or str(error)).lower()}")
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
    dropped = logs.writer_drops = DropCount()
    writer = os.fork()
    if writer == 0:
        pidfile.release()
        os.close(tell)
        bound.close_listeners()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        write_log(read, LogFile(log_of(settings), settings.log.size, settings.log.backups, dropped))
    os.close(read)
    logs.on_reopen.append(lambda: os.kill(writer, signals.REOPEN))
    try:
        return lifecycle.reported(settings.name, lambda: _serve(bound, tell))
    finally:
        context.close()


def _serve(bound: Bound, tell: int) -> int:
    # supervisord may have started the shell in which the command was typed; it did not start the daemon.
    os.environ.pop("SUPERVISOR_ENABLED", None)
    # Standard output is another file now than when logging was set up.
    logs.configure(bound.settings.logging_ini)

    def announce(line: str) -> None:
        lifecycle.announce(line)
        os.write(tell, f"{line}\n".encode("utf-8", "backslashreplace"))
        os.close(tell)

    return lifecycle.serve(bound, announce)
