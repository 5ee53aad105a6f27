"""Commands of an operator while the suite runs."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from tests.end_to_end.project import Project
from tests.operating.live import free_port, open_files, refused, talk, until


def test_status_is_asked_in_the_folder_without_naming_the_file(suite: Project) -> None:
    status = suite.supervisorctl("status")
    assert status.returncode == 0
    for name in suite.ports:
        assert re.search(rf"^{name} +RUNNING +pid {suite.pid(name)}, uptime", status.stdout, re.MULTILINE)


def test_stop_start_and_restart(suite: Project) -> None:
    before = suite.pid()
    stopped = suite.supervisorctl("stop", "launcelot")
    assert (stopped.returncode, stopped.stdout) == (0, "launcelot: stopped\n")
    assert refused(suite.port)
    status = suite.supervisorctl("status")
    assert status.returncode == 3  # something is stopped
    assert re.search(r"^launcelot +STOPPED ", status.stdout, re.MULTILINE)
    assert re.search(r"^zen +RUNNING ", status.stdout, re.MULTILINE)

    started = suite.supervisorctl("start", "launcelot")
    assert (started.returncode, started.stdout) == (0, "launcelot: started\n")
    suite.until_ready()
    assert suite.answers()
    second = suite.pid()

    restarted = suite.supervisorctl("restart", "launcelot")
    assert (restarted.returncode, restarted.stdout) == (0, "launcelot: stopped\nlauncelot: started\n")
    suite.until_ready()
    assert suite.answers()
    assert len({before, second, suite.pid()}) == 3


def test_supervised_process_is_the_daemon_in_the_foreground(suite: Project) -> None:
    """The pid that supervisord has is the one in the ready line, and the one that holds the listener."""
    pid = suite.pid()
    ready = [line for line in suite.log().splitlines() if " launcelot ready " in line]
    expected = f"launcelot ready tcp://127.0.0.1:{suite.port} engine=threads processes=1 pid={pid}"
    assert ready[-1].partition("] ")[2] == expected
    assert _listening(pid) == {suite.port}
    assert not (suite.path / "run" / "launcelot.pid").exists()
    # Its log is a pipe to supervisord, which alone has the file open.
    assert str(suite.path / "logs" / "launcelot.log") in open_files(suite.supervisord)
    assert not any(target.endswith(".log") for target in open_files(pid))
    assert os.readlink(f"/proc/{pid}/fd/1").startswith("pipe:")


def test_the_control_socket_is_its_owners_and_there_is_no_port(suite: Project) -> None:
    socket = (suite.path / "run" / "supervisor.sock").stat()
    assert stat.S_ISSOCK(socket.st_mode)
    assert stat.S_IMODE(socket.st_mode) == 0o700
    assert socket.st_uid == os.geteuid()
    assert _listening(suite.supervisord) == set()


def _listening(pid: int) -> set[int]:
    """Return the TCP ports on which a process listens."""
    inodes = {target[8:-1] for target in open_files(pid) if target.startswith("socket:[")}
    found: set[int] = set()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def test_daemons_ask_prints_the_three_answers(suite: Project) -> None:
    asked = suite.type_in("daemons", "ask", "launcelot")
    assert asked.returncode == 0
    assert asked.stdout == "My name is Sir Launcelot of Camelot.\nTo seek the Holy Grail.\nBlue.\n"
    assert suite.type_in("daemons", "ask", "zen").stdout == "Ugly.\nImplicit.\nComplex.\n"


def test_the_log_has_one_line_for_each_conversation(suite: Project) -> None:
    suite.settle()
    before, lines = len(suite.access()), len(suite.log().splitlines())
    assert suite.type_in("daemons", "ask", "launcelot").returncode == 0
    for words in (b"What is your quest?", b"What", b""):
        talk(suite.port, words)
    until(lambda: len(suite.access()) == before + 4, "four access lines")
    new = suite.access()[before:]
    assert [(found["ending"], found["messages"]) for found in new] == [
        ("done", "3"),
        ("done", "1"),
        ("cut", "0"),
        ("done", "0"),
    ]
    assert len(suite.log().splitlines()) == lines + 4
    assert suite.log().splitlines()[-1] in suite.supervisorctl("tail", "launcelot").stdout
    assert {found["pid"] for found in new} == {str(suite.pid())}


def test_a_port_changed_in_the_ini_is_there_after_a_restart(suite: Project) -> None:
    port = free_port()
    suite.edit("launcelot", f"port = {suite.port}", f"port = {port}")
    checked = suite.type_in("daemons", "check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"OK: {', '.join(suite.ports)}; supervisord.conf\n"
    # Until then nothing changes.
    assert suite.answers()
    assert suite.supervisorctl("restart", "launcelot").returncode == 0
    suite.until_ready()
    assert suite.answers(port)
    assert refused(suite.port)
    assert f"tcp://127.0.0.1:{port} " in suite.type_in("daemons", "list").stdout
    assert re.search(rf"^port +{port} +conf/launcelot.ini$", suite.type_in("daemons", "show", "launcelot").stdout, re.M)
    assert (
        suite.type_in("daemons", "ask", "launcelot", "-", "What is your quest?").stdout == "To seek the Holy Grail.\n"
    )


def test_check_finds_a_mistake_before_a_restart_does(suite: Project) -> None:
    suite.edit("launcelot", "engine = threads", "engin = threads\n[limits]\nidle_timeout = 5 minutes")
    suite.edit("zen", f"port = {suite.ports['zen']}", f"port = {suite.port}")
    checked = suite.type_in("daemons", "check")
    assert (checked.returncode, checked.stdout) == (100, "")
    assert checked.stderr == (
        "conf/launcelot.ini [daemon] engin: no such setting; did you mean engine?\n"
        "conf/launcelot.ini [limits] idle_timeout = 5 minutes: not a duration; write 10s, 5m or 1h\n"
    )
    suite.edit("launcelot", "engin = threads\n[limits]\nidle_timeout = 5 minutes", "engine = threads")
    checked = suite.type_in("daemons", "check")
    assert checked.returncode == 100
    address = f"tcp://127.0.0.1:{suite.port}"
    assert checked.stderr == f"conf/zen.ini [daemon] {address}: conf/launcelot.ini has {address} already\n"
    assert suite.answers()


def test_a_change_of_the_shared_logging_changes_every_daemons_lines(suite: Project) -> None:
    suite.edit("logging", "%(asctime)s %(levelname)s", "CAMELOT %(levelname)s")
    assert suite.supervisorctl("restart", "all").returncode == 0
    for name, port in suite.ports.items():
        suite.until_ready(name)
        talk(port, b"")
        until(lambda name=name: f"CAMELOT INFO daemons.{name}.access[" in suite.log(name), f"{name}'s new format")  # type: ignore[misc]
