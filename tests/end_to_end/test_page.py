"""The commands of docs/writing-a-daemon.md."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess

import pytest

from tests.end_to_end.page import Command, File, steps
from tests.end_to_end.project import TOP, Project
from tests.end_to_end.test_conversations import netcat
from tests.operating.live import BIN, READY, free_port, until

PAGE = TOP / "docs" / "writing-a-daemon.md"

#: The width of the terminal; lists are cut to it.
COLUMNS = 120

#: The ports that the page names.
PORTS = {"1060": "launcelot", "1070": "zen", "1090": "knights", "1091": "bridge", "1092": "shout", "1099": "checksum"}


@pytest.fixture
def clone(project: Project) -> Project:
    """A project with the package in its folder, like a clone, and with the daemons that the page mentions."""
    for name in ("daemons", "tests"):
        shutil.copytree(TOP / name, project.path / name, ignore=shutil.ignore_patterns("__pycache__"))
    project.keep("launcelot", "zen")
    project.variables["PYTHONPATH"] = str(project.path)
    python = project.path / ".venv" / "bin" / "python"
    python.unlink()
    python.write_text(f'#!/bin/sh\nexec "{BIN}/python" "$@"\n')
    python.chmod(0o755)
    project.run()
    return project


class Terminal:
    """A command at a terminal, where daemons print other lines than into a pipe; ended when the context ends."""

    def __init__(self, project: Project, *command: str) -> None:
        self._descriptor, its_side = pty.openpty()
        self._received = b""
        try:
            self.process = subprocess.Popen(
                ["setsid", "--ctty", "--wait", *command],
                cwd=project.path,
                env={**project.environment, "COLUMNS": str(COLUMNS), "NO_COLOR": "1"},
                stdin=its_side,
                stdout=its_side,
                stderr=its_side,
            )
        except BaseException:
            os.close(self._descriptor)
            raise
        finally:
            os.close(its_side)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._descriptor)

    def read(self, seconds: float = 0.0) -> bool:
        """Read the output that comes within `seconds`; returns whether there can be more."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while poll.poll(seconds * 1000):
            try:
                self._received += os.read(self._descriptor, 4096)
            except OSError:  # EIO: no process has the terminal open
                return False
        return True

    def write(self, data: bytes) -> None:
        os.write(self._descriptor, data)

    @property
    def shown(self) -> str:
        # A page shows output after ^C on a new line.
        return self._received.decode().replace("\r\n", "\n").replace("^C", "^C\n")


def type_it(project: Project, line: str) -> str:
    """Return the terminal output of a command."""
    with Terminal(project, "bash", "-c", line) as terminal:
        until(lambda: not terminal.read(0.05) or terminal.process.poll() is not None, line, 60.0)
        terminal.read()
        assert terminal.process.wait(10) is not None
        return terminal.shown


def type_and_interrupt(project: Project, line: str) -> str:
    """Return the terminal output of a command that is interrupted by Ctrl-C after its ready line."""
    with Terminal(project, *line.split()) as terminal:

        def ready() -> bool:
            terminal.read()
            return READY.search(terminal.shown) is not None

        until(ready, "the ready line")
        terminal.write(b"\x03")
        assert terminal.process.wait(20) == 0
        terminal.read()
        return terminal.shown


@pytest.mark.timeout(110)
def test_commands_of_the_page_print_the_documented_output(clone: Project) -> None:
    netcat()
    changed = {port: str(clone.ports.get(name) or free_port()) for port, name in PORTS.items()}
    changed["/srv/camelot"] = str(clone.path)
    commands = 0
    for step in steps(PAGE, changed):
        if isinstance(step, File):
            path = clone.path / step.path
            path.write_text((path.read_text() if step.appended else "") + step.text)
            continue
        commands += 1
        if "^C\n" in step.printed:
            printed = type_and_interrupt(clone, step.line)
        else:
            printed = type_it(clone, step.line)
            if re.match(r"(sleep|cat|grep)\b", step.line):  # it observes the running daemon
                printed = until(lambda: seen(clone, step), step.line)  # noqa: B023
        assert step.matches(printed), f"$ {step.line}\n{printed}instead of\n{step.printed}"
        if re.match(r"supervisorctl (update|restart)", step.line):
            clone.until_ready("knights")
    assert commands > 15
    # Told in the text, not in a block.
    transcripts = "python -m pytest tests/transcripts -k knights"
    assert f"`{transcripts}`" in PAGE.read_text("utf-8")
    assert re.search(r"^\d+ passed", type_it(clone, f".venv/bin/{transcripts} -q -p no:cacheprovider"), re.MULTILINE)


def seen(project: Project, step: Command) -> str:
    """Return the output of the command, once it matches the page."""
    printed = type_it(project, step.line)
    return printed if step.matches(printed) else ""
