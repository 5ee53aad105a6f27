"""A temporary copy of the project's configuration, on ports of its own, under a supervisord of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from daemons.operating.metrics import stats

TOP = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
NO_DAEMONS = ("defaults", "logging")

#: Deadlines that are reached during a run of minutes, in place of the defaults.  A flood of a few dozen connections
#: exceeds max_connections, and max_per_peer is lower.
LIMITS = {
    "max_connections": "40",
    "max_per_peer": "30",
    "handshake_timeout": "2s",
    "message_timeout": "3s",
    "write_timeout": "3s",
    "idle_timeout": "5s",
    "drain_timeout": "4s",
    "conversation_timeout": "5s",
}
LONGEST_DEADLINE = 5.0

#: Daemons with several workers, so that one can be killed, and that a reload replaces them.
WORKERS = ("httpd", "lines", "launcelot", "jsonrpc")

#: Logs are rotated at a small size, with as many old files as supervisord keeps without losing lines.
LOG_SIZE, LOG_BACKUPS = "64KB", 400

#: Seconds for supervisord to start all daemons, or one, on a busy machine.
START_SECONDS = 90.0
STOP_SECONDS = 60.0


class PlaceError(Exception):
    """The test environment could not be set up.  The text gives the reason."""


def until(condition: Callable[[], object], seconds: float, step: float = 0.05) -> bool:
    """Return whether `condition` becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True


class Place:
    """The copy of the configuration, and the processes in it.  `end` stops them by pid and removes the folder."""

    def __init__(self, only: Iterable[str] = ()) -> None:
        # A short path: the name of a Unix socket has at most 108 bytes.
        self.path = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp")).resolve()
        shutil.copytree(TOP / "conf", self.path / "conf")
        shutil.copy2(TOP / "supervisord.conf", self.path)
        # Only the shipped daemons of conf/, without local ones in conf.d/.
        programs = re.findall(r"(?m)^\[program:(\w+)\]", (self.path / "supervisord.conf").read_text("utf-8"))
        for path in (self.path / "conf").glob("*.ini"):
            if path.stem not in (*programs, *NO_DAEMONS):
                path.unlink()
        for name in ("run", "logs", ".venv/bin"):
            (self.path / name).mkdir(parents=True)
        for command in ("daemons", "supervisord"):
            (self.path / ".venv" / "bin" / command).symlink_to(BIN / command)
        shipped = sorted(path.stem for path in (self.path / "conf").glob("*.ini") if path.stem not in NO_DAEMONS)
        wanted = list(only) or shipped
        if unknown := set(wanted) - set(shipped):
            shutil.rmtree(self.path)
            raise PlaceError(f"no such daemon: {', '.join(sorted(unknown))}; there are {' '.join(shipped)}")
        self.ports = dict(zip(wanted, free_ports(len(wanted)), strict=True))
        self._configure(shipped)
        self._supervisord: subprocess.Popen[bytes] | None = None

    # --- configuration -----------------------------------------------------------------------------

    def _configure(self, shipped: list[str]) -> None:
        for name in shipped:
            ini = self.path / "conf" / f"{name}.ini"
            if name not in self.ports:
                ini.unlink()
                continue
            port, text = self.ports[name], ini.read_text("utf-8")
            text = re.sub(r"(?m)^port = \d+", f"port = {port}", text)
            text = re.sub(r"(?m)^listen = .*", lambda found: re.sub(r":\d+\b", f":{port}", found[0]), text)  # noqa: B023
            text = re.sub(rf"(?m)^({'|'.join(LIMITS)}) = .*\n", "", text)  # replaced by those below
            # Upstream servers of `front`, at their new ports; a port without a server refuses connections.
            text = re.sub(r"(?m)^(/\S+ = 127\.0\.0\.1:)8001$", rf"\g<1>{self.ports.get('webapp', 9)}", text)
            if name in WORKERS:
                text = text.replace("[daemon]\n", "[daemon]\nprocesses = 2\n", 1)
            ini.write_text(text, "utf-8")
        defaults = self.path / "conf" / "defaults.ini"
        limits = "".join(f"{key} = {value}\n" for key, value in LIMITS.items())
        defaults.write_text(defaults.read_text("utf-8").replace("[limits]\n", f"[limits]\n{limits}", 1), "utf-8")
        conf = self.path / "supervisord.conf"
        text = conf.read_text("utf-8")
        for name in shipped:
            if name not in self.ports:
                text = re.sub(rf"(?ms)^\[program:{name}\]\n.*?(?=^\[|\Z)", "", text)
        rotation = f"stdout_logfile_maxbytes = {LOG_SIZE}\nstdout_logfile_backups = {LOG_BACKUPS}"
        text = re.sub(r"(?m)^stdout_logfile = .*", rf"\g<0>\n{rotation}", text)
        conf.write_text(text, "utf-8")

    # --- control -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start supervisord, and wait until all daemons are ready.  Raises `PlaceError`."""
        self._command("daemons", "cert")
        self._command("daemons", "check")
        self.launch()
        if missing := self.not_ready():
            raise PlaceError(
                f"not ready within {START_SECONDS:g} s: {', '.join(missing)}; {self._last_words(missing[0])}"
            )

    def launch(self) -> None:
        """Start supervisord."""
        # In the foreground as a child, so that it can be waited for; in its own session, lest Ctrl-C reach it.
        with (self.path / "logs" / "supervisord.out").open("wb") as output:
            self._supervisord = subprocess.Popen(
                [BIN / "supervisord", "-n", "-c", str(self.path / "supervisord.conf")],
                cwd=self.path,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill_supervisord(self) -> None:
        """Kill supervisord with kill -9, and reap it."""
        assert self._supervisord is not None
        self._supervisord.kill()
        self._supervisord.wait()

    def not_ready(self) -> list[str]:
        """Return the daemons that are not ready after the time to start."""
        until(lambda: all(map(self.is_ready, self.ports)), START_SECONDS)
        return [name for name in self.ports if not self.is_ready(name)]

    def is_ready(self, name: str) -> bool:
        """Return whether the process that owns the scoreboard is alive and has logged its ready line, shortly after a
        start, before the line is rotated away."""
        try:
            figures = self.figures(name)
        except stats.UnreadableError:
            return False
        return figures.state == "running" and f" pid={figures.pid}\n" in self.log(name)

    def control(self, *words: str) -> str:
        """Return the output of ``supervisorctl WORDS``."""
        return self._run("supervisorctl", "-c", str(self.path / "supervisord.conf"), *words)[1]

    def _command(self, *words: str) -> None:
        code, output = self._run(*words)
        if code:
            raise PlaceError(f"{' '.join(words)}: {output.strip()}")

    def _run(self, command: str, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(BIN / command), *words],
            cwd=self.path,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STOP_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DAEMONS_", "SUPERVISOR_"))}
        return {**kept, "PATH": f"{BIN}:{os.environ.get('PATH', '')}"}

    # --- observation -------------------------------------------------------------------------------

    def figures(self, name: str) -> stats.Figures:
        """Return the counters, as ``daemons stats NAME --json``, without starting a process.  Raises
        `stats.UnreadableError`."""
        return stats.read(self.path / "run" / f"{name}.metrics")

    def logs(self, name: str) -> Iterator[str]:
        """Return the lines of all files of a log, the oldest first."""
        files = sorted((self.path / "logs").glob(f"{name}.log*"), key=_age, reverse=True)
        for path in files:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                yield from file

    def log(self, name: str) -> str:
        """Return the end of a log: the newest files, as many as may be filled while a daemon starts."""
        folder = self.path / "logs"
        found = [*(folder / f"{name}.log.{number}" for number in range(20, 0, -1)), folder / f"{name}.log"]
        return "".join(path.read_text("utf-8", "replace") for path in found if path.exists())

    def _last_words(self, name: str) -> str:
        lines = self.log(name).splitlines()
        return lines[-1] if lines else f"{name} has no log"

    @property
    def processes(self) -> list[int]:
        """The pids of the processes whose working directory is this folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or belongs to another user
                if Path(os.readlink(entry / "cwd")).is_relative_to(self.path):
                    found.append(int(entry.name))
        return found

    # --- end ---------------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """Stop all daemons and supervisord; return a complaint for each process that did not end."""
        if self._supervisord is None:
            return []
        self.control("stop", "all")
        self.control("shutdown")
        try:
            self._supervisord.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return [f"supervisord has not ended within {STOP_SECONDS:g} s"]
        until(lambda: not self.processes, 5.0)
        return [f"process {pid} has outlived supervisord" for pid in self.processes]

    def end(self, *, keep: bool = False) -> None:
        """Kill the remaining processes by pid, and remove the folder unless `keep`."""
        if self._supervisord is not None and self._supervisord.poll() is None:
            self._supervisord.kill()  # first, since it would restart the others
            self._supervisord.wait()
        while left := self.processes:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        if not keep:
            shutil.rmtree(self.path)


def _age(path: Path) -> int:
    """Return 0 for NAME.log, 3 for NAME.log.3."""
    last = path.suffix.removeprefix(".")
    return int(last) if last.isdigit() else 0


def free_ports(count: int) -> list[int]:
    """Return free ports below ip_local_port_range, which the kernel does not assign to clients."""
    found: list[int] = []
    for port_bytes in iter(lambda: os.urandom(2), None):
        port = 20000 + int.from_bytes(port_bytes, "big") % 12000
        if port not in found and is_free(port):
            found.append(port)
            if len(found) == count:
                break
    return found


def is_free(port: int) -> bool:
    """Return whether no socket is bound to this port of 127.0.0.1."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
