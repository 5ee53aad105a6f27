"""One daemon in a temporary folder of its own, without supervisord."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from soak.place import BIN, TOP, PlaceError, free_ports, until
from tests.serving.peers import children_of

#: Seconds for a daemon to start and to stop, on a busy machine.
PATIENCE = 60.0

LAUNCELOT = "[daemon]\nservice = launcelot\nport = {port}\n"


class Lone:
    """``daemons run lone``, as a context manager.  Its processes are ended by pid, and its folder is removed.

    `ini` is the text of the ini; ``{port}`` and ``{second_port}`` stand for free ports.  `files` are files for the
    folder, by name."""

    def __init__(self, ini: str = LAUNCELOT, *arguments: str, files: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp")).resolve()
        self.port, self.second_port = free_ports(2)
        (self.folder / "conf").mkdir()
        (self.folder / "conf" / "lone.ini").write_text(self._filled(ini), "utf-8")
        for name, text in (files or {}).items():
            (self.folder / name).write_text(text, "utf-8")
        if "tls://" in ini:
            command = [str(BIN / "daemons"), "cert"]
            subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def _filled(self, text: str) -> str:
        return text.replace("{port}", str(self.port)).replace("{second_port}", str(self.second_port))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Start the daemon, and wait for its ready line.  Raise `PlaceError` if there is none."""
        begun = self.log.count(" ready ")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(BIN / "daemons"), "run", "lone", *self._arguments],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(TOP)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        process = self.process
        if not until(lambda: self.log.count(" ready ") > begun or process.poll() is not None, PATIENCE):
            raise PlaceError("the daemon is not ready")
        if process.poll() is not None:
            raise PlaceError(f"the daemon did not start; its log: {self.log[-2000:]}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        """The daemon and its descendants."""
        found, new = [], [self.pid]
        while new:
            found += new
            new = [child for pid in new for child in children_of(pid)]
        return found

    @property
    def log(self) -> str:
        """The output of the daemon so far."""
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def pss(self) -> float:
        """Return the proportional set size of all processes together, in MiB."""
        total = 0
        for pid in self.pids:
            with suppress(OSError):  # it has ended
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024

    def end(self) -> None:
        """Stop the daemon, kill processes that are left, and remove the folder."""
        if self.process is not None and self.process.poll() is None:
            pids = self.pids
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
            for pid in pids:
                if pid == self.process.pid and self.process.poll() is not None:
                    continue
                with suppress(OSError):
                    if Path(os.readlink(f"/proc/{pid}/cwd")) == self.folder:
                        os.kill(pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
