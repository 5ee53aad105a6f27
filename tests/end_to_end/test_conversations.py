"""Conversations of supervised daemons with third-party clients, complete and interrupted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from tests.end_to_end.project import Project
from tests.operating.live import GRAIL, alive, children, talk, until

NAME, BLUE = b"My name is Sir Launcelot of Camelot.", b"Blue."


def netcat() -> str:
    """Return nc if it supports -N, or skip the test."""
    found = shutil.which("nc")
    usage = subprocess.run([found, "-h"], capture_output=True, text=True, check=False).stderr if found else ""
    if found and re.search(r"-N\b|\[-[a-zA-Z0-9]*N", usage):
        return found
    reason = "nc that knows -N is missing: make engines, or apt-get install netcat-openbsd"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"What is your quest?", GRAIL),
        (b"What is your name?What is your favorite color?", NAME + BLUE),
        (b"What is your name?\nWhat is your quest?\r\n", NAME + GRAIL),
        (b"What is the airspeed velocity of an unladen swallow?", b"I don't know that."),
        (b"What is your", b""),
        (b"x" * 5000, b"I don't know that."),
    ],
    ids=["one", "two in a packet", "typed", "unknown", "cut short", "oversize"],
)
def test_netcat_is_answered(suite: Project, said: bytes, answer: bytes) -> None:
    nc = [netcat(), "-N", "127.0.0.1", str(suite.port)]
    heard = subprocess.run(nc, input=said, capture_output=True, timeout=20, check=False)
    assert (heard.returncode, heard.stdout, heard.stderr) == (0, answer, b"")


def test_one_question_in_eighteen_packets_gets_one_answer(suite: Project) -> None:
    question = b"What is your name?"
    assert len(question) == 18
    suite.settle()
    before = len(suite.access())
    with socket.create_connection(("127.0.0.1", suite.port), 10.0) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in question:
            peer.send(bytes((octet,)))
        peer.shutdown(socket.SHUT_WR)
        heard = b""
        while data := peer.recv(4096):
            heard += data
    assert heard == NAME
    until(lambda: len(suite.access()) == before + 1, "the access line")
    assert suite.access()[-1]["messages"] == "1"


def test_peer_that_leaves_in_mid_question_leaves_one_access_line(suite: Project) -> None:
    suite.settle()
    lines = len(suite.log().splitlines())
    assert talk(suite.port, b"What is your na") == b""
    until(lambda: len(suite.log().splitlines()) > lines, "the line")
    assert talk(suite.port) == GRAIL
    until(lambda: len(suite.log().splitlines()) > lines + 1, "the next visitor's line")
    first, second = suite.access()[-2:]
    assert (first["ending"], first["messages"]) == ("cut", "0")
    assert (second["ending"], second["messages"]) == ("done", "1")
    assert len(suite.log().splitlines()) == lines + 2


@pytest.mark.parametrize("engine", ["threads", "forks", "one"])
def test_a_stop_lets_the_answer_arrive(suite: Project, engine: str) -> None:
    if engine != "threads":
        suite.edit("launcelot", "engine = threads", f"engine = {engine}")
        suite.supervisorctl("restart", "launcelot")
        suite.until_ready()
    assert f" engine={engine} processes=1 pid={suite.pid()}" in suite.log()
    stops = suite.log().count("stopping: ")
    with (
        socket.create_connection(("127.0.0.1", suite.port), 10.0) as busy,
        subprocess.Popen(
            ["supervisorctl", "stop", "launcelot"],
            cwd=suite.path,
            env=suite.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as stop,
    ):
        busy.sendall(b"What is your name?What")
        assert busy.recv(100) == NAME
        until(lambda: suite.log().count("stopping: ") > stops, "the drain")
        busy.sendall(b" is your quest?")
        assert busy.recv(100) == GRAIL
        assert busy.recv(100) == b""
        assert stop.communicate(timeout=20)[0] == "launcelot: stopped\n"
    info = suite.info()
    assert (info["statename"], info["exitstatus"]) == ("STOPPED", 0)


def test_kill_term_lets_the_answer_arrive_and_supervisord_starts_it_again(suite: Project) -> None:
    pid = suite.pid()
    with socket.create_connection(("127.0.0.1", suite.port), 10.0) as busy:
        busy.sendall(b"What is your name?What")
        assert busy.recv(100) == NAME
        stops = suite.log().count("stopping: ")
        os.kill(pid, signal.SIGTERM)
        until(lambda: suite.log().count("stopping: ") > stops, "the drain")
        busy.sendall(b" is your quest?")
        assert busy.recv(100) == GRAIL
    until(lambda: suite.pid() not in (0, pid) and suite.answers(), "another launcelot answering")
    log = (suite.path / "logs" / "supervisord.log").read_text()
    assert "exited: launcelot (exit status 0; expected)" in log


def test_kill_9_and_supervisord_has_it_answering_again(suite: Project) -> None:
    pid = suite.pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: suite.pid() not in (0, pid) and suite.answers(), "another launcelot answering")
    assert not alive(pid)


def test_kill_9_of_one_of_several_processes_is_mended_by_their_parent(suite: Project) -> None:
    suite.edit("launcelot", "engine = threads", "engine = threads\nprocesses = 2")
    suite.supervisorctl("restart", "launcelot")
    until(lambda: len(children(suite.pid())) == 2, "two workers")
    suite.until_ready()
    pid, before = suite.pid(), children(suite.pid())
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(children(pid)) - {before[0]}) == 2, "another worker")
    assert suite.pid() == pid
    assert all(suite.answers() for _ in range(10))
    assert f"worker {before[0]} died of signal 9; starting a replacement" in suite.log()
