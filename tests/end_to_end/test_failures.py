"""A daemon that cannot start is FATAL after a few seconds, with the reason in its log; the others run."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.end_to_end.project import Project
from tests.operating.live import GRAIL, free_port, refused, talk, until

#: A command that starts the daemon when launcelot is ready.
AFTER_LAUNCELOT = (
    "bash -c 'until grep -q \" ready \" logs/launcelot.log; do sleep 0.1; done; exec .venv/bin/daemons run twin'"
)

ANGRY = "raise RuntimeError('on purpose')\n"

#: name → its ini, with {taken} for a port in use and {twin} for launcelot's; None: no file.
INIS: dict[str, str | None] = {
    "angry": "[daemon]\nservice = angry:Angry\nport = 0\n",
    "engine": "[daemon]\nservice = zen\nport = 0\nengine = treads\n",
    "missing": None,
    "mistyped": "[daemon]\nservice = zen\nprot = 0\n",
    "taken": "[daemon]\nservice = zen\nport = {taken}\n",
    "twin": "[daemon]\nservice = zen\nport = {twin}\n",
}

#: name → the exit code and the last line of its log.
REASONS = {
    "angry": (
        100,
        "angry: conf/angry.ini [daemon] service = angry:Angry: angry.py line 1: RuntimeError: on purpose",
    ),
    "engine": (
        100,
        "engine: conf/engine.ini [daemon] engine = treads: "
        "write one, threads, forks, pool or loop; did you mean threads?",
    ),
    "missing": (100, "missing: conf/missing.ini: no such file"),
    "mistyped": (100, "mistyped: conf/mistyped.ini [daemon] port: missing; write port = N, or listen = ADDRESS"),
    "taken": (
        111,
        "taken: tcp://127.0.0.1:{taken}: address already in use; `ss -ltnp sport = :{taken}` shows the process",
    ),
    "twin": (111, "twin: tcp://127.0.0.1:{twin}: address already in use; `ss -ltnp sport = :{twin}` shows the process"),
}


@dataclass
class Broken:
    """A project with two valid daemons, six that cannot start and another without its command, and the output of
    `make run`."""

    project: Project
    taken: int
    ran: subprocess.CompletedProcess[str]
    seconds: float

    def said_of(self, name: str) -> list[str]:
        """Return the lines of the log of `name` in the output of `make run`."""
        found = re.search(rf"^logs/{name}\.log:\n((?: {{4}}.*\n)+)", self.ran.stderr, re.MULTILINE)
        assert found, self.ran.stderr
        return [line.removeprefix("    ") for line in found[1].splitlines()]

    def filled(self, text: str) -> str:
        return text.format(taken=self.taken, twin=self.project.port)


@pytest.fixture(scope="module")
def broken() -> Iterator[Broken]:
    project = Project()
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        taken = listener.getsockname()[1]
        try:
            (project.path / "angry.py").write_text(ANGRY)
            supervision = project.path / "supervisord.conf"
            program = re.search(r"\[program:zen\]\n[^[]*", supervision.read_text("utf-8"))
            assert program
            with supervision.open("a") as file:
                for name, ini in INIS.items():
                    # A copy of the program with another name, as the file itself instructs. The long startsecs makes
                    # a daemon that fails late on a busy machine count as not started.
                    text = program[0].replace(":zen]", f":{name}]").replace("startsecs = 2", "startsecs = 9")
                    if name == "twin":  # comes second to its port
                        text = re.sub(r"(?m)^command = .*", f"command = {AFTER_LAUNCELOT}", text)
                    file.write(text + "\n")
                    if ini is not None:
                        text = ini.format(taken=taken, twin=project.port)
                        (project.path / "conf" / f"{name}.ini").write_text(text)
                text = program[0].replace(":zen]", ":gone]")
                file.write(re.sub(r"(?m)^command = .*", "command = /nowhere/daemons run zen", text))
            begun = time.monotonic()
            ran = project.type_in("make", "run")
            yield Broken(project, taken, ran, time.monotonic() - begun)
        finally:
            project.end()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", INIS)
def test_broken_daemon_is_fatal_and_its_log_has_the_reason(broken: Broken, name: str) -> None:
    project = broken.project
    code, reason = REASONS[name]
    until(lambda: project.state(name) == "FATAL", f"{name} FATAL")
    logged = project.log(name).splitlines()
    lines = [re.sub(r"^\S+ \S+ ERROR daemons\.operating\.lifecycle\[\d+\] ", "", line) for line in logged]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", line) for line in logged)
    assert lines[-1] == broken.filled(reason)
    # startretries is 3: supervisord gives up after four tries.
    assert lines.count(lines[-1]) == 4
    supervisord = (project.path / "logs" / "supervisord.log").read_text()
    assert supervisord.count(f"exited: {name} (exit status {code}; not expected)") == 4
    assert f"gave up: {name} entered FATAL state" in supervisord
    assert "Traceback" not in project.log(name)


@pytest.mark.timeout(60)
def test_make_run_reports_daemons_that_do_not_run_with_the_reason(broken: Broken) -> None:
    assert broken.ran.returncode == 2
    assert broken.seconds < 40  # the recipe's own deadline: it has seen that they are FATAL
    for name, (_, reason) in REASONS.items():
        assert re.search(rf"^{name} +FATAL ", broken.ran.stdout, re.MULTILINE)
        said = broken.said_of(name)
        assert said[-1] == broken.filled(reason)
        # Of the last try alone, and not endless.
        assert said.count(said[-1]) == 1
        assert len(said) <= 10
    assert broken.said_of("mistyped") == [
        "mistyped: conf/mistyped.ini [daemon] prot: no such setting; did you mean port?",
        "mistyped: conf/mistyped.ini [daemon] port: missing; write port = N, or listen = ADDRESS",
    ]
    assert broken.said_of("missing") == ["missing: conf/missing.ini: no such file"]
    assert broken.said_of("gone") == ["(empty)"]
    assert re.search(r"^launcelot +RUNNING ", broken.ran.stdout, re.MULTILINE)
    assert "Correct the errors (daemons check)" in broken.ran.stderr


@pytest.mark.timeout(60)
def test_the_others_run_all_the_same(broken: Broken) -> None:
    assert talk(broken.project.port) == GRAIL
    status = broken.project.supervisorctl("status")
    assert status.returncode == 3
    assert re.search(r"^zen +RUNNING ", status.stdout, re.MULTILINE)


@pytest.mark.timeout(60)
def test_check_reports_all_errors_at_once_with_similar_names(broken: Broken) -> None:
    checked = broken.project.type_in("daemons", "check")
    assert (checked.returncode, checked.stdout) == (100, "")
    # A port taken by another program is reported in the log only.
    assert checked.stderr.splitlines() == [
        "conf/angry.ini [daemon] service = angry:Angry: angry.py line 1: RuntimeError: on purpose",
        "conf/engine.ini [daemon] engine = treads: write one, threads, forks, pool or loop; did you mean threads?",
        "conf/mistyped.ini [daemon] prot: no such setting; did you mean port?",
        "conf/mistyped.ini [daemon] port: missing; write port = N, or listen = ADDRESS",
        broken.filled(
            "conf/twin.ini [daemon] tcp://127.0.0.1:{twin}: conf/launcelot.ini has tcp://127.0.0.1:{twin} already"
        ),
        "supervisord.conf [program:gone] command: there is no /nowhere/daemons",
        "supervisord.conf [program:missing] command: there is no conf/missing.ini",
    ]


@pytest.mark.timeout(60)
def test_put_right_it_starts(suite: Project) -> None:
    """`make run` starts FATAL programs again."""
    suite.edit("launcelot", "service = launcelot", "service = lancelot")
    restarted = suite.supervisorctl("restart", "launcelot")
    assert "launcelot: ERROR (spawn error)" in restarted.stdout
    until(lambda: suite.state() == "FATAL", "launcelot FATAL", 30.0)
    assert suite.log().endswith(
        "launcelot: conf/launcelot.ini [daemon] service = lancelot: "
        "there is no module daemons.lancelot in the suite; one of your own is written module:Class\n"
    )
    assert refused(suite.port)
    suite.edit("launcelot", "service = lancelot", "service = launcelot")
    suite.run()
    assert suite.state() == "RUNNING"
