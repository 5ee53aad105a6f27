"""``make run``, ``make stop``, and what they print."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest

from tests.end_to_end.project import Project
from tests.operating.live import GRAIL, alive, refused, talk, until


@pytest.mark.timeout(60)
def test_make_run_brings_up_the_suite_and_make_stop_takes_it_down(project: Project) -> None:
    ran = project.run()
    lines = ran.stdout.splitlines()
    # How many run, and of each where it listens and what it is; what does not run would be named before.
    assert f"{len(project.ports)} daemons run." in lines
    for name, port in project.ports.items():
        assert any(re.match(rf"{name} +tcp://127\.0\.0\.1:{port} +\w+ +[A-Z]\w+ ", line) for line in lines), ran.stdout
    assert talk(project.port) == GRAIL
    # What to type next; each of these is typed in the tests beside this one.
    hints = ran.stdout.partition("\nWhat to type next:\n")[2]
    for command in (
        ". .venv/bin/activate",
        "supervisorctl status",
        "daemons ask launcelot",
        "tail -F logs/launcelot.log",
    ):
        assert re.search(rf"^    {re.escape(command)} +#", hints, re.MULTILINE), hints
    assert hints.endswith("    make stop\n")

    # A second time changes nothing.
    pid = project.pid()
    again = project.run()
    assert again.stdout.startswith(f"supervisord already runs (pid {project.supervisord}); reading supervisord.conf")
    assert project.pid() == pid

    # While something runs, the files it needs are not removed.
    clean = project.type_in("make", "clean")
    assert clean.returncode == 2
    assert (
        f"make clean: run/supervisord.pid names process {project.supervisord}, which runs: stop it first"
        in clean.stderr
    )
    assert project.answers()

    processes = project.processes
    assert {project.supervisord, pid} <= set(processes)
    stopped = project.type_in("make", "stop")
    assert stopped.returncode == 0
    assert stopped.stdout.endswith("supervisord and all its daemons have ended\n")
    assert project.processes == []
    assert not any(map(alive, processes))
    assert all(map(refused, project.ports.values()))
    # But the counts of what they did, for `daemons stats`, and the certificate that was made.
    left = [path.name for path in (project.path / "run").iterdir() if path.name != "tls"]
    assert [name for name in left if not name.endswith(".metrics")] == []

    again = project.type_in("make", "stop")
    assert (again.returncode, again.stdout) == (0, "supervisord was not running\n")


def test_make_alone_lists_its_words(project: Project) -> None:
    listed = project.type_in("make")
    assert listed.returncode == 0
    words = re.findall(r"^    make (\w+) +\S", listed.stdout, re.MULTILINE)
    assert words == ["run", "stop", "test", "check", "bench", "soak", "engines", "constraints", "clean", "help"]


def test_stop_waits_for_a_conversation_that_is_under_way(project: Project) -> None:
    project.run()
    with socket.create_connection(("127.0.0.1", project.port), 10.0) as peer:
        peer.sendall(b"What is your name?What is")
        assert peer.recv(100)
        stop = subprocess.Popen(
            ["make", "stop"], cwd=project.path, env=project.environment, stdout=subprocess.PIPE, text=True
        )
        with stop:
            try:
                until(lambda: "stopping; conversations under way: 1" in project.log(), "the drain")
                assert stop.poll() is None
                peer.sendall(b" your quest?")
                assert peer.recv(100) == GRAIL
                assert peer.recv(100) == b""
            finally:
                printed, _ = stop.communicate(timeout=40)
    assert stop.returncode == 0
    assert printed.endswith("supervisord and all its daemons have ended\n")
    assert project.processes == []
