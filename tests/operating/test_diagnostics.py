"""Lines on standard error: with a time if that is the log, and on standard output if it cannot be written."""

from __future__ import annotations

import re

import pytest

from tests.operating.folder import GOOD, Folder
from tests.operating.live import BIN, GRAIL, READY, daemons, environment, talk, type_in, until

TIMED = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    folder.write("wrong", "[daemon]\nservice = launcelot\nprot = 1\n")
    return folder


def shell(suite: Folder, line: str, **variables: str) -> tuple[int, str, str]:
    ended = type_in(suite.path, "bash", "-c", line, env=environment(**variables))
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "2> >(exit 0)"])
def test_complaint_goes_to_standard_output_where_standard_error_cannot_be_written(
    suite: Folder, redirected: str
) -> None:
    closed = redirected == "2>&-"  # then it is /dev/null, which takes everything
    code, out, _ = shell(suite, f"daemons run wrong {redirected}")
    assert code == 100
    assert closed or out.startswith("wrong: conf/wrong.ini [daemon] prot: no such setting")


@pytest.mark.parametrize("streams", [">/dev/full 2>&1", ">&- 2>/dev/full", ">/dev/full 2>/dev/full"])
def test_exit_code_reports_the_failure_if_no_line_can_be_written(suite: Folder, streams: str) -> None:
    assert shell(suite, f"daemons run wrong {streams}")[0] == 100


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("streams", ["2>/dev/full", ">/dev/full 2>&1", "2> >(exit 0)"])
def test_daemon_serves_where_its_ready_line_cannot_be_written(suite: Folder, streams: str, processes: str) -> None:
    suite.write("launcelot", GOOD.replace("port = 1060", "listen = unix:run/l.sock"))
    line = f"daemons run launcelot --processes {processes} {streams} & echo $! >pid; wait $!; echo $? >code"
    try:
        type_in(suite.path, "bash", "-c", f"({line}) >out 2>&1 &")
        socket = suite.path / "run" / "l.sock"
        until(socket.exists, "the socket")
        assert until(lambda: answer(str(socket)), "an answer") == GRAIL
    finally:
        type_in(suite.path, "bash", "-c", "kill $(cat pid)")
    until(lambda: (suite.path / "code").exists() and (suite.path / "code").read_text() == "0\n", "the exit code")


def answer(path: str) -> bytes:
    try:
        return talk(path)
    except OSError:
        return b""


def test_lines_have_the_time_where_standard_error_is_the_log(suite: Folder) -> None:
    _, out, _ = shell(suite, "daemons run wrong 2>&1")
    assert re.match(TIMED + r"ERROR daemons\.operating\.lifecycle\[\d+\] wrong: conf/wrong\.ini ", out)
    _, out, _ = shell(suite, "timeout 2 daemons run launcelot 2>&1")
    lines = out.splitlines()
    assert READY.fullmatch(lines[0])
    assert all(re.match(TIMED, line) for line in lines)
    _, _, err = shell(suite, "daemons run wrong", SUPERVISOR_ENABLED="1")
    assert re.match(TIMED, err)


def test_lines_have_no_time_on_a_terminal_nor_where_standard_error_is_for_a_person(suite: Folder) -> None:
    ended = daemons(suite.path, "run", "wrong")
    assert ended.stderr.startswith("wrong: conf/wrong.ini ")
    code, out, _ = shell(suite, f"script -qec '{BIN}/daemons run wrong' /dev/null </dev/null")
    assert code == 100
    assert out.startswith("wrong: conf/wrong.ini ")


def test_bug_is_one_line_of_the_log_with_its_traceback(suite: Folder) -> None:
    """A bug of the suite: no code of an author's can cause one here, so the limits are given one."""
    suite.module("sitecustomize", "import resource\nresource.getrlimit = None\n")
    _, out, _ = shell(suite, "daemons run launcelot 2>&1", PYTHONPATH=str(suite.path))
    (line,) = out.splitlines()
    assert re.match(TIMED + "ERROR ", line)
    assert "launcelot: a bug: TypeError: " in line
    assert r"\nTraceback (most recent call last):\n" in line
