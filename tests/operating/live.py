"""Runs of the command ``daemons``, and helpers that wait for a condition."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import pytest

from daemons.operating.metrics.stats import Figures
from tests.serving.peers import children_of

T = TypeVar("T")

#: The folder of the environment's commands.
BIN = Path(sysconfig.get_path("scripts"))

#: The ready line, on a line of its own: bare, or in a log behind the time.
READY = re.compile(
    r"^(?:\S+ \S+ INFO daemons\.operating\.lifecycle\[\d+\] )?(?P<name>[\w-]+) ready "
    r"(?P<addresses>(?:(?:tcp|tls|udp)://\S+:\d+|unix:/\S+)(?: (?:(?:tcp|tls|udp)://\S+:\d+|unix:/\S+))*) "
    r"engine=(?P<engine>\w+) processes=(?P<processes>\d+) pid=(?P<pid>\d+)$",
    re.MULTILINE,
)

QUEST = b"What is your quest?"
GRAIL = b"To seek the Holy Grail."


def until(condition: Callable[[], T], what: str, seconds: float = 15.0) -> T:
    """Return the first true result of `condition`; fail if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return found


def see_turns(figures: Callable[[], Figures], count: int) -> None:
    """Wait for `count` more turns of a daemon's loop, which are a second apart in an idle daemon."""

    def turned() -> float:
        return time.monotonic() - (figures().silent or 0.0)

    for _ in range(count):
        before = turned()
        until(lambda: turned() > before + 0.5, "another turn")  # noqa: B023


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a terminal, without variables of make, supervisord and this project."""
    ours = ("DAEMONS_", "SUPERVISOR_", "MAKE", "MFLAGS", "ARGS")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "80", **more}


def type_in(
    folder: Path, *command: str, env: Mapping[str, str] | None = None, seconds: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """Run one command in `folder`, and wait for its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def daemons(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``daemons ARGUMENTS`` in `folder`."""
    return type_in(folder, str(BIN / "daemons"), *arguments, env=env)


class Live:
    """``daemons run ARGUMENTS`` in the foreground, from its ready line to its end."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        command: tuple[str, ...] = (),
        ready: bool = True,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        # Files, not pipes, which would block the daemon when full.
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*(command or (str(BIN / "daemons"),)), "run", *arguments],
            cwd=folder,
            env=environment(),
            stdin=stdin,
            stdout=self._out if stdout is None else stdout,
            stderr=self._err,
        )
        try:
            if ready:
                until(lambda: READY.search(self.err) or self.process.poll() is not None, "the ready line")
                assert READY.search(self.err), self.err
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process in any case."""
        if self.process.poll() is None:
            self.stop()
        self._out.close()
        self._err.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal `number`; return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def out(self) -> str:
        """The content of standard output."""
        return _content(self._out.fileno())

    @property
    def err(self) -> str:
        """The content of standard error."""
        return _content(self._err.fileno())

    @property
    def ready(self) -> re.Match[str]:
        """The ready line."""
        found = READY.search(self.err)
        assert found, self.err
        return found

    @property
    def addresses(self) -> list[str]:
        return self.ready["addresses"].split()

    @property
    def port(self) -> int:
        """The port of the first address."""
        return int(self.addresses[0].rpartition(":")[2])


def _content(descriptor: int) -> str:
    # With the offset given, for the daemon writes at the one that it shares with us.
    return os.pread(descriptor, 1 << 24, 0).decode("utf-8", "replace")


def talk(port: int | str, words: bytes = QUEST, host: str = "127.0.0.1") -> bytes:
    """Send `words`, shut down our half, and return all received bytes, like ``nc -N``."""
    if isinstance(port, str):
        peer = socket.socket(socket.AF_UNIX)
    else:
        peer = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    with peer:
        peer.settimeout(10.0)
        peer.connect(port if isinstance(port, str) else (host, port))
        peer.sendall(words)
        peer.shutdown(socket.SHUT_WR)
        reply = b""
        while data := peer.recv(65536):
            reply += data
    return reply


def refused(port: int) -> bool:
    """Return whether no process listens on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def alive(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_waiting(pid: int) -> bool:
    """Return whether a process has slept, and used no CPU, for 0.2 s."""

    def used() -> tuple[str, str, str]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[11], fields[12]

    first = used()
    for _ in range(10):
        time.sleep(0.02)
        if used() != first:
            return False
    return first[0] == "S"


def children(pid: int) -> list[int]:
    """Return the running children of `pid`."""
    try:
        return sorted(children_of(pid))
    except (FileNotFoundError, ProcessLookupError):
        return []


def open_files(pid: int) -> set[str]:
    """Return the targets of a process's descriptors: paths, ``pipe:[…]``, ``socket:[…]``."""
    found: set[str] = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(entry))
    return found


def working_in(folder: Path) -> list[int]:
    """Return the running processes whose working folder is `folder` or below."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or belongs to another user
            if Path(os.readlink(entry / "cwd")).is_relative_to(folder) and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def end_all(folder: Path) -> None:
    """End the processes that a test left in its `folder`, by SIGTERM, then by SIGKILL."""
    number = signal.SIGTERM
    while left := working_in(folder):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 3
        while any(map(alive, left)) and time.monotonic() < deadline:
            time.sleep(0.01)
        number = signal.SIGKILL


def free_port() -> int:
    """Return a free port below ip_local_port_range, which the kernel assigns to no client."""
    for number in os.urandom(200):
        port = 20000 + int.from_bytes(os.urandom(2), "big") % 12000 + number % 2
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
