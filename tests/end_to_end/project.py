"""A private copy of the project's top level, for running make and supervisorctl.

Its ``.venv`` holds nothing but links to the commands of the environment that runs the tests, and the stamp
by which the Makefile knows an environment that is whole: nothing is installed anew.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import xmlrpc.client
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from tests.operating.live import BIN, READY, end_all, environment, free_port, talk, type_in, until, working_in
from tests.shipped import SHIPPED

TOP = Path(__file__).resolve().parents[2]

#: Files and folders of the top level that an operator works with.
COPIED = ("conf", "constraints.txt", "Makefile", "pyproject.toml", "setup.cfg", "supervisord.conf")

#: The line of one conversation in a log.
ACCESS = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ daemons\.(?P<name>\w+)\.access\[(?P<pid>\d+)\] "
    r"(?P<peer>\S+) (?P<ending>\w+) messages=(?P<messages>\d+|-) received=(?:\d+|-) sent=(?:\d+|-) seconds=\d+\.\d{3}"
)


class Project:
    """The copy.  `end` stops all processes in it by pid."""

    def __init__(self, *, whole: bool = False) -> None:
        # Short, for a Unix socket's name has room for 108 octets.
        self.path = Path(tempfile.mkdtemp(prefix="camelot-", dir="/tmp")).resolve()
        for name in COPIED:
            if (TOP / name).is_dir():
                shutil.copytree(TOP / name, self.path / name)
            else:
                shutil.copy2(TOP / name, self.path / name)
        for name in ("run", "logs", "conf.d"):
            (self.path / name).mkdir()
        shutil.copy2(TOP / "conf.d" / "example.conf", self.path / "conf.d")
        # Without local daemons of the checkout.
        for ini in (self.path / "conf").glob("*.ini"):
            if ini.stem not in (*SHIPPED, "defaults", "logging"):
                ini.unlink()
        bin_ = self.path / ".venv" / "bin"
        bin_.mkdir(parents=True)
        for command in ("daemons", "supervisord", "supervisorctl", "python"):
            (bin_ / command).symlink_to(BIN / command)
        (self.path / ".venv" / "installed").write_text(f"{self.path}\n")
        #: Environment variables beyond those of a terminal.
        self.variables: dict[str, str] = {}
        self.ports: dict[str, int] = {}
        for ini in sorted((self.path / "conf").glob("*.ini")):
            if ini.stem not in ("defaults", "logging"):
                self._move(ini)
        if not whole:
            # Two daemons suffice for behavior common to all, and start sooner.
            self.keep("launcelot", "zen")
        #: What every ini said to begin with.
        self.inis = {ini: ini.read_text("utf-8") for ini in (self.path / "conf").glob("*.ini")}

    def _move(self, ini: Path) -> None:
        """Set the port to a free one."""
        port = self.ports[ini.stem] = free_port()
        text = ini.read_text("utf-8")
        text = re.sub(r"(?m)^port = \d+", f"port = {port}", text)
        text = re.sub(r"(?m)^listen = .*", lambda listen: re.sub(r":\d+\b", f":{port}", listen[0]), text)
        ini.write_text(text, "utf-8")

    def keep(self, *names: str) -> None:
        """Keep only these daemons."""
        path = self.path / "supervisord.conf"
        for name in [*self.ports]:
            if name not in names:
                (self.path / "conf" / f"{name}.ini").unlink()
                del self.ports[name]
                text = re.sub(rf"(?ms)^\[program:{name}\]\n.*?(?=^\[|\Z)", "", path.read_text("utf-8"))
                path.write_text(text, "utf-8")

    @property
    def port(self) -> int:
        """Return launcelot's port."""
        return self.ports["launcelot"]

    # --- actions of an operator ------------------------------------------------------------------------

    def type_in(self, *command: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder, with its virtual environment activated."""
        return type_in(self.path, *command, env=self.environment, seconds=seconds)

    def supervisorctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.type_in("supervisorctl", *words)

    @property
    def environment(self) -> dict[str, str]:
        before = environment()
        return {**before, "PATH": f"{self.path}/.venv/bin:{before['PATH']}", **self.variables}

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run ``make run``, which must succeed."""
        ended = self.type_in("make", "run")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        self.until_ready()
        return ended

    def until_ready(self, *names: str) -> None:
        """RUNNING means that it has lived for a second, which on a busy machine may be too short to listen."""
        for name in names or self.ports:
            pid = str(self.pid(name))
            until(lambda: any(found["pid"] == pid for found in READY.finditer(self.log(name))), f"{name}'s ready line")  # noqa: B023

    def edit(self, name: str, old: str, new: str) -> None:
        """Edit conf/NAME.ini."""
        ini = self.path / "conf" / f"{name}.ini"
        text = ini.read_text("utf-8")
        assert old in text
        ini.write_text(text.replace(old, new), "utf-8")

    def edit_supervision(self, changes: Mapping[str, str], program: str = "launcelot") -> None:
        """Set keys of one program in supervisord.conf."""
        path = self.path / "supervisord.conf"
        head, mark, rest = path.read_text("utf-8").partition(f"[program:{program}]\n")
        body, *others = re.split(r"(?m)^(?=\[)", rest, maxsplit=1)
        for key, value in changes.items():
            body, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", body)
            if not count:
                body = f"{key} = {value}\n{body}"
        path.write_text(head + mark + body + "".join(others), "utf-8")

    # --- observations of an operator ----------------------------------------------------------------------

    def log(self, name: str = "launcelot") -> str:
        """Return the content of ``logs/NAME.log``."""
        path = self.path / "logs" / f"{name}.log"
        return path.read_text("utf-8") if path.exists() else ""

    def access(self, name: str = "launcelot") -> list[re.Match[str]]:
        """Return the access lines in ``logs/NAME.log``."""
        return [found for line in self.log(name).splitlines() if (found := ACCESS.fullmatch(line))]

    def settle(self) -> None:
        """Return when launcelot's log has the line of every conversation there was, the last of them our own."""
        mark = len(self.access()) + 100
        talk(self.port, b"?" * mark)
        until(lambda: any(found["messages"] == str(mark) for found in self.access()), "the log's last line")

    @contextmanager
    def _supervisor(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.path}/run/supervisor.sock")
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport).supervisor
        finally:
            transport.close()

    def info(self, name: str = "launcelot") -> dict[str, Any]:
        """Return supervisord's information on a program."""
        with self._supervisor() as supervisor:
            found = supervisor.getProcessInfo(name)
        assert isinstance(found, dict)
        return found

    def state(self, name: str = "launcelot") -> str:
        return str(self.info(name)["statename"])

    def pid(self, name: str = "launcelot") -> int:
        return int(self.info(name)["pid"])

    @property
    def supervisord(self) -> int:
        return int((self.path / "run" / "supervisord.pid").read_text())

    @property
    def processes(self) -> list[int]:
        return working_in(self.path)

    def answers(self, port: int | None = None) -> bool:
        """Return whether launcelot answers."""
        try:
            return talk(port or self.port) == b"To seek the Holy Grail."
        except OSError:
            return False

    # --- before and after --------------------------------------------------------------------------

    def restore(self) -> None:
        """Restore every ini, and restart the daemons."""
        for ini in (self.path / "conf").glob("*.ini"):
            if ini not in self.inis:
                ini.unlink()
        changed = {ini.stem for ini, text in self.inis.items() if ini.read_text("utf-8") != text}
        for ini, text in self.inis.items():
            ini.write_text(text, "utf-8")
        with self._supervisor() as supervisor:
            for name in self.ports:
                if {name, "defaults", "logging"} & changed and self.state(name) == "RUNNING":
                    supervisor.stopProcess(name)
                if self.state(name) not in ("RUNNING", "STARTING", "BACKOFF"):
                    supervisor.startProcess(name)
        for name in self.ports:
            until(lambda name=name: self.state(name) == "RUNNING", f"{name} running")  # type: ignore[misc]
        self.until_ready()

    def end(self) -> None:
        """Stop all processes and remove the copy; supervisord first, since it would restart the others."""
        with suppress(OSError, ValueError):
            os.kill(self.supervisord, signal.SIGKILL)
        end_all(self.path)
        shutil.rmtree(self.path)
