"""``make run``, ``make stop``, and their output."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.project import Project
from tests.operating.live import GRAIL, alive, refused, talk, until


@pytest.mark.timeout(60)
def test_make_run_brings_up_the_suite_and_make_stop_takes_it_down(project: Project) -> None:
    ran = project.run()
    lines = ran.stdout.splitlines()
    # The number of running daemons, and the address and description of each; failed ones would come before.
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
    # The scoreboards stay for `daemons stats`, and so does the generated certificate.
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
        peer.sendall(b"What is your name?What")
        assert peer.recv(100)
        stop = subprocess.Popen(
            ["make", "stop"], cwd=project.path, env=project.environment, stdout=subprocess.PIPE, text=True
        )
        with stop:
            try:
                until(lambda: "stopping: draining 1 connections" in project.log(), "the drain")
                assert stop.poll() is None
                peer.sendall(b" is your quest?")
                assert peer.recv(100) == GRAIL
                assert peer.recv(100) == b""
            finally:
                printed, _ = stop.communicate(timeout=40)
    assert stop.returncode == 0
    assert printed.endswith("supervisord and all its daemons have ended\n")
    assert project.processes == []


@pytest.mark.timeout(60)
def test_supervisord_stops_all_programs_at_the_same_time(project: Project) -> None:
    """On its own it stops one after the other, the last of the alphabet first."""
    project.run()
    supervisord = project.supervisord
    with socket.create_connection(("127.0.0.1", project.ports["zen"]), 10.0) as peer:
        peer.sendall(b"Beautiful")  # a message that is not complete: zen has to wait for the rest
        until(lambda: re.search(r"^active +1$", stats(project, "zen"), re.MULTILINE), "the conversation")
        os.kill(supervisord, signal.SIGTERM)
        until(lambda: refused(project.port), "the end of launcelot")
        assert "stopping: draining 1 connections" in project.log("zen")
        assert alive(supervisord)
    until(lambda: project.processes == [], "the end of all", 30.0)


@pytest.mark.timeout(60)
def test_stop_signal_that_a_program_lost_as_it_was_started_is_sent_again(project: Project) -> None:
    """As between fork(2) and execve(2). Otherwise supervisord waits for all of stopwaitsecs."""
    script = "trap 'trap - TERM' TERM; echo started; while :; do sleep 0.1; done"
    log = project.path / "logs" / "deaf.log"
    (project.path / "conf.d" / "deaf.conf").write_text(
        f'[program:deaf]\ncommand = sh -c "{script}"\nstopwaitsecs = 50\nstdout_logfile = {log}\n'
    )
    project.run()
    words = project.type_in("supervisorctl", "pid", "deaf").stdout
    os.kill(int(words), signal.SIGKILL)
    until(lambda: log.read_text().count("started") == 2, "the next start")
    os.kill(project.supervisord, signal.SIGTERM)
    until(lambda: project.processes == [], "the end of all", 30.0)
    assert "stopped: deaf (terminated by SIGTERM)" in project.log("supervisord")


def stats(project: Project, name: str) -> str:
    return project.type_in("daemons", "stats", name).stdout


@pytest.mark.timeout(60)
def test_fault_of_defaults_ini_is_said_once_and_nothing_is_started(project: Project) -> None:
    (project.path / "conf" / "defaults.ini").write_text("[limits]\nidle_timeot = 5m\n")
    ran = project.type_in("make", "run")
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[:2] == [
        "conf/defaults.ini [limits] idle_timeot: no such setting; did you mean idle_timeout?",
        "make run: nothing was started",
    ]
    assert (ran.stdout + ran.stderr).count("idle_timeot") == 1
    assert project.processes == []
    assert list((project.path / "logs").iterdir()) == []


@pytest.mark.timeout(60)
def test_program_of_ones_own_in_conf_d_is_run_and_a_fault_of_it_stops_no_other(project: Project) -> None:
    example = (project.path / "conf.d" / "example.conf").read_text("utf-8")
    text = re.sub("(?m)^; ?", "", example.partition("; [program:NAME]")[2])
    for name, service in (("good", "launcelot"), ("bad", "lancelot")):
        (project.path / "conf.d" / f"{name}.conf").write_text(f"[program:{name}]{text}")
        (project.path / "conf" / f"{name}.ini").write_text(f"[daemon]\nservice = {service}\nport = 0\n")
    ran = project.type_in("make", "run")
    assert ran.returncode == 2
    # FATAL once it has been tried four times; where an interpreter takes seconds to start, it may still be on its way.
    assert re.search(r"^bad +(FATAL|BACKOFF|STARTING) ", ran.stdout, re.MULTILINE), ran.stdout
    for name in ("good", "launcelot", "zen"):
        assert re.search(rf"^{name} +RUNNING ", ran.stdout, re.MULTILINE)
    assert "bad: conf/bad.ini [daemon] service = lancelot: there is no module" in ran.stderr
    assert " ready tcp://127.0.0.1:" in project.log("good")


@pytest.mark.timeout(120)
def test_supervisord_whose_socket_was_removed_is_found_and_stopped(project: Project) -> None:
    project.run()
    pid = project.supervisord
    (project.path / "run" / "supervisor.sock").unlink()
    again = project.type_in("make", "run")
    assert again.returncode != 0
    assert f"make run: supervisord runs (pid {pid}), but does not answer at run/supervisor.sock" in again.stderr
    assert talk(project.port) == GRAIL
    stopped = project.type_in("make", "stop")
    assert (stopped.returncode, stopped.stdout) == (0, "supervisord and all its daemons have ended\n"), stopped.stderr
    assert refused(project.port)


@pytest.mark.parametrize(("mode", "reason"), [(0o600, "names process 1, which runs"), (0, "belongs to another user")])
def test_clean_is_refused_while_a_daemon_of_another_user_runs(tmp_path: Path, mode: int, reason: str) -> None:
    if mode == 0 and os.geteuid() == 0:
        pytest.skip("root can read every file")
    shutil.copy(Path(__file__).resolve().parents[2] / "Makefile", tmp_path)
    pidfile = tmp_path / "run" / "zen.pid"
    pidfile.parent.mkdir()
    pidfile.write_text("1\n")
    pidfile.chmod(mode)
    ended = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, timeout=60.0)
    assert ended.returncode != 0
    assert f"make clean: run/zen.pid {reason}" in ended.stderr
    assert pidfile.exists()
