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

#: Deadlines short enough to be reached again and again, in place of the built-in ones, which a run of minutes would
#: never see.  No more connections than a crowd of a few dozen can fill, and fewer for one peer.
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

#: Daemons that get workers, so that one can be killed, and that a reload replaces them.
WORKERS = ("httpd", "lines", "launcelot", "jsonrpc")

#: Rotated early and often; as many old ones as supervisord may number without a line being thrown away.
LOG_SIZE, LOG_BACKUPS = "64KB", 400

#: Seconds for supervisord to start them all, or one, on a busy machine.
START_SECONDS = 90.0
STOP_SECONDS = 60.0


class PlaceError(Exception):
    """The place could not be had.  The text says why."""


def until(condition: Callable[[], object], seconds: float, step: float = 0.05) -> bool:
    """Whether `condition` becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True


class Place:
    """The copy, and what runs in it.  `end` ends it all, by pid, and removes it."""

    def __init__(self, only: Iterable[str] = ()) -> None:
        # Short: a Unix socket's name has room for 108 octets.
        self.path = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp")).resolve()
        shutil.copytree(TOP / "conf", self.path / "conf")
        shutil.copy2(TOP / "supervisord.conf", self.path)
        # Daemons of whoever works in the checkout are not in it, but in conf.d/.
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
        self.ports = dict(zip(wanted, _free_ports(len(wanted)), strict=True))
        self._configure(shipped)
        self._supervisord: subprocess.Popen[bytes] | None = None

    # --- how it is configured ----------------------------------------------------------------------

    def _configure(self, shipped: list[str]) -> None:
        for name in shipped:
            ini = self.path / "conf" / f"{name}.ini"
            if name not in self.ports:
                ini.unlink()
                continue
            port, text = self.ports[name], ini.read_text("utf-8")
            text = re.sub(r"(?m)^port = \d+", f"port = {port}", text)
            text = re.sub(r"(?m)^listen = .*", lambda found: re.sub(r":\d+\b", f":{port}", found[0]), text)  # noqa: B023
            text = re.sub(rf"(?m)^({'|'.join(LIMITS)}) = .*\n", "", text)  # what is said below holds for all
            # Those behind `front`, wherever they are now; where there are none, nobody answers there.
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

    # --- what is done to it ------------------------------------------------------------------------

    def start(self) -> None:
        """Start supervisord, and wait until every daemon is ready.  Raises `PlaceError`."""
        self._command("daemons", "cert")
        self._command("daemons", "check")
        # In the foreground, as our child: so it can be waited for.  In a session of its own, lest Ctrl-C reach it.
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
        if missing := self.not_ready():
            raise PlaceError(
                f"not ready within {START_SECONDS:g} s: {', '.join(missing)}; {self._last_words(missing[0])}"
            )

    def not_ready(self) -> list[str]:
        """The daemons that are not ready, after some time to become so."""
        until(lambda: all(map(self.is_ready, self.ports)), START_SECONDS)
        return [name for name in self.ports if not self.is_ready(name)]

    def is_ready(self, name: str) -> bool:
        """Whether the process that keeps the scoreboard lives and has said so; to be asked of one that has just been
        started, whose ready line has not been rotated away."""
        try:
            figures = self.figures(name)
        except stats.UnreadableError:
            return False
        return figures.state == "running" and f" pid={figures.pid}\n" in self.log(name)

    def control(self, *words: str) -> str:
        """What ``supervisorctl WORDS`` prints."""
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

    # --- what is seen of it ------------------------------------------------------------------------

    def figures(self, name: str) -> stats.Figures:
        """What ``daemons stats NAME --json`` tells; read without a process for each look.  Raises
        `stats.UnreadableError`."""
        return stats.read(self.path / "run" / f"{name}.metrics")

    def logs(self, name: str) -> Iterator[str]:
        """The lines of all its log's files, the oldest first."""
        files = sorted((self.path / "logs").glob(f"{name}.log*"), key=_age, reverse=True)
        for path in files:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                yield from file

    def log(self, name: str) -> str:
        """The end of its log: the youngest files, as many as a flood may fill while a daemon becomes ready."""
        folder = self.path / "logs"
        found = [*(folder / f"{name}.log.{number}" for number in range(20, 0, -1)), folder / f"{name}.log"]
        return "".join(path.read_text("utf-8", "replace") for path in found if path.exists())

    def _last_words(self, name: str) -> str:
        lines = self.log(name).splitlines()
        return lines[-1] if lines else f"{name} has no log"

    @property
    def processes(self) -> list[int]:
        """Those that work in this folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended, or is somebody else's
                if Path(os.readlink(entry / "cwd")).is_relative_to(self.path):
                    found.append(int(entry.name))
        return found

    # --- its end -----------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """Stop every daemon and supervisord; returns what did not end, as complaints."""
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
        """End, each by its pid, whatever still runs here; and remove the folder unless it is to be kept."""
        if self._supervisord is not None and self._supervisord.poll() is None:
            self._supervisord.kill()  # first: it would start what ends
            self._supervisord.wait()
        while left := self.processes:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        if not keep:
            shutil.rmtree(self.path)


def _age(path: Path) -> int:
    """0 for NAME.log, 3 for NAME.log.3."""
    last = path.suffix.removeprefix(".")
    return int(last) if last.isdigit() else 0


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has, and that the kernel gives to no client meanwhile: below ip_local_port_range."""
    found: list[int] = []
    for octets in iter(lambda: os.urandom(2), None):
        port = 20000 + int.from_bytes(octets, "big") % 12000
        if port not in found and _is_free(port):
            found.append(port)
            if len(found) == count:
                break
    return found


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
