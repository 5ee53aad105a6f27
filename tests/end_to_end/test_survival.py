"""Events that a daemon survives, and the end of its supervisord."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import termios
import time

import pytest

from tests.end_to_end.project import Project
from tests.operating.live import GRAIL, alive, children, refused, talk, until


@pytest.mark.timeout(60)
def test_closing_the_terminal_changes_nothing(project: Project) -> None:
    """Run `make run` in a terminal that is then closed: processes of its session get SIGHUP."""
    ours, theirs = pty.openpty()
    try:
        shell = subprocess.Popen(
            ["bash", "--norc", "-c", "make run; read line"],
            cwd=project.path,
            env=project.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
    finally:
        os.close(theirs)
    try:
        printed = b""
        while b"make stop\r\n" not in printed:
            printed += os.read(ours, 65536)
        assert b"2 daemons run." in printed
        project.until_ready()
        pids = (project.supervisord, project.pid())
        assert os.getsid(shell.pid) == shell.pid
        assert all(os.getsid(pid) != shell.pid for pid in pids)
    finally:
        os.close(ours)
        try:
            # The kernel hangs up on the session's leader: it is how we know that the terminal is gone.
            assert shell.wait(20) in (-signal.SIGHUP, 128 + signal.SIGHUP, 1)
        finally:
            if shell.poll() is None:
                shell.kill()
                shell.wait()
    assert talk(project.port) == GRAIL
    assert (project.supervisord, project.pid()) == pids
    assert all(map(alive, pids))


@pytest.mark.timeout(60)
def test_daemons_leave_with_a_supervisord_that_was_killed(project: Project) -> None:
    """Orphans would keep the ports from the next supervisord's daemons."""
    project.edit("zen", "engine = loop", "engine = loop\nprocesses = 2")
    project.run()
    until(lambda: len(children(project.pid("zen"))) == 2, "zen's workers")
    pids = [project.pid(), project.pid("zen"), *children(project.pid("zen"))]
    with socket.create_connection(("127.0.0.1", project.port), 10.0) as busy:
        busy.sendall(b"What is your name?What")
        assert busy.recv(100)
        killed = time.monotonic()
        os.kill(project.supervisord, signal.SIGKILL)
        until(lambda: not any(map(alive, pids)), "the end of its daemons", 10.0)
        assert time.monotonic() - killed < 4
    assert all(map(refused, project.ports.values()))
    until(lambda: project.processes == [], "the end of everything")
    # Its stale pid file and socket do not prevent the next start.
    project.run()
    assert talk(project.port) == GRAIL
