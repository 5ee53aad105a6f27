"""Daemons whose supervisord or main process is killed release their ports for their successors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import ExitStack
from itertools import product

import pytest

from tests.end_to_end.project import Project
from tests.operating.live import alive, children, free_port, until

#: Under each engine, each daemon is launcelot, by another name and in so many processes.
PROCESSES = {"single": 1, "twins": 2}

#: Engines of the daemons under one supervisord.
each_group = pytest.mark.parametrize(
    "engines", [("one", "threads", "forks"), ("pool", "loop")], ids=lambda engines: ", ".join(engines)
)


def add_daemons(project: Project, engines: tuple[str, ...]) -> list[str]:
    """Add the daemons, and return the names of those with several processes."""
    supervision = project.path / "supervisord.conf"
    text = supervision.read_text("utf-8")
    section = text[text.index("[program:launcelot]") : text.rindex("[program:zen]")]
    project.keep()
    for engine, (number, processes) in product(engines, PROCESSES.items()):
        name = f"{number}-{engine}"
        project.ports[name] = port = free_port()
        (project.path / "conf" / f"{name}.ini").write_text(
            f"[daemon]\nservice = launcelot\nport = {port}\nengine = {engine}\nprocesses = {processes}\n", "utf-8"
        )
        with supervision.open("a", encoding="utf-8") as file:
            file.write("\n" + section.replace("launcelot", name))
    return [f"twins-{engine}" for engine in engines]


def start(project: Project) -> None:
    """Start supervisord directly, without make."""
    command = [f"{project.path}/.venv/bin/supervisord", "-c", f"{project.path}/supervisord.conf"]
    ended = subprocess.run(
        command, cwd=project.path, env=project.environment, capture_output=True, timeout=30, check=False
    )
    assert ended.returncode == 0, ended.stderr
    pidfile = project.path / "run" / "supervisord.pid"
    until(lambda: pidfile.exists() and pidfile.read_text("ascii").endswith("\n"), "supervisord")
    until(lambda: alive(project.supervisord), "supervisord")


def ready(project: Project, name: str) -> bool:
    """Return whether it is RUNNING; fail if it is FATAL."""
    state = project.state(name)
    assert state != "FATAL", project.log(name)[-2000:]
    return state == "RUNNING"


@each_group
@pytest.mark.timeout(120)
def test_all_daemons_run_again_when_supervisord_is_killed_and_started_at_once(
    project: Project, engines: tuple[str, ...]
) -> None:
    add_daemons(project, engines)
    start(project)
    for name, port in project.ports.items():
        # RUNNING means that it has lived for two seconds, which on a busy machine may be too short to listen.
        until(lambda: ready(project, name) and project.answers(port), f"{name} running", 30.0)  # noqa: B023
    with ExitStack() as stack:
        for port in project.ports.values():
            # A conversation that would drain for eight seconds.
            busy = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10.0))
            busy.sendall(b"What is your name?What")
            assert busy.recv(100)
        old = [project.pid(name) for name in project.ports]
        os.kill(project.supervisord, signal.SIGKILL)
        until(lambda: not alive(project.supervisord), "its end")
        (project.path / "run" / "supervisord.pid").unlink()
        start(project)
        for name in project.ports:
            until(lambda: ready(project, name), f"{name} running", 30.0)  # noqa: B023
    for name, port in project.ports.items():
        until(lambda: project.answers(port), f"{name}'s answer")  # noqa: B023
        shown = project.type_in("daemons", "stats", name)
        assert (shown.returncode, shown.stdout.split()[1]) == (0, "running,"), shown
    assert not any(map(alive, old))


@each_group
@pytest.mark.timeout(120)
def test_a_parent_of_workers_that_is_killed_is_started_again_at_once(
    project: Project, engines: tuple[str, ...]
) -> None:
    several = add_daemons(project, engines)
    start(project)
    for name, port in project.ports.items():
        # RUNNING means that it has lived for two seconds, which on a busy machine may be too short to listen.
        until(lambda: ready(project, name) and project.answers(port), f"{name} running", 30.0)  # noqa: B023
    for name in several:
        with socket.create_connection(("127.0.0.1", project.ports[name]), 10.0) as busy:
            busy.sendall(b"What is your name?What")
            assert busy.recv(100)
            parent = project.pid(name)
            workers = children(parent)
            os.kill(parent, signal.SIGKILL)
            until(lambda: project.pid(name) not in (0, parent) and ready(project, name), f"{name} running", 30.0)  # noqa: B023
            until(lambda: not any(map(alive, workers)), f"the end of {name}'s old workers")  # noqa: B023
        until(lambda: project.answers(project.ports[name]), f"{name}'s answer")  # noqa: B023
        # The counters of the orphans do not hide its own.
        shown = project.type_in("daemons", "stats", name)
        assert (shown.returncode, shown.stdout.split()[1]) == (0, "running,"), shown
