"""docs/writing-a-daemon.md, followed to the letter."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess

import pytest

from tests.end_to_end.page import Command, File, steps
from tests.end_to_end.project import TOP, Project
from tests.end_to_end.test_conversations import netcat
from tests.operating.live import BIN, READY, free_port, until

PAGE = TOP / "docs" / "writing-a-daemon.md"

#: The ports that the page names.
PORTS = {"1060": "launcelot", "1070": "zen", "1090": "knights", "1091": "bridge", "1092": "shout"}


@pytest.fixture
def clone(project: Project) -> Project:
    """A project with the package in its folder, as a clone has it, and of the suite what the page knows."""
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


def type_it(project: Project, line: str) -> str:
    """What a terminal shows of a command."""
    ended = subprocess.run(
        ["bash", "-c", line],
        cwd=project.path,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout


def type_and_interrupt(project: Project, line: str) -> str:
    """The same of one that is ended by Ctrl-C when it has said that it is ready."""
    shown = project.path / "shown"
    with shown.open("wb") as file:
        process = subprocess.Popen(
            line.split(), cwd=project.path, env=project.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        until(lambda: READY.search(shown.read_text()), "the ready line")
        ready = shown.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return ready + "^C\n" + shown.read_text().removeprefix(ready)


@pytest.mark.timeout(110)
def test_the_page_does_what_it_says(clone: Project) -> None:
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
            if re.match(r"(sleep|cat|grep)\b", step.line):  # it looks at what happens meanwhile
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
    """What the command prints, once that is what the page says."""
    printed = type_it(project, step.line)
    return printed if step.matches(printed) else ""
