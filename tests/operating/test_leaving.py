"""A module that would end the process when it is imported does not: it is a bug, and told as one."""

from __future__ import annotations

import pytest

from tests.operating.folder import GOOD, Folder
from tests.operating.live import daemons

#: What the module does → what is said of it.
LEAVING = {
    "import sys; sys.exit()": "LeavingError: x called sys.exit(None) while it was imported",
    "import sys; sys.exit(0)": "LeavingError: x called sys.exit(0) while it was imported",
    "import sys; sys.exit('no database')": "LeavingError: x called sys.exit('no database') while it was imported",
    "raise GeneratorExit('odd')": "LeavingError: x raised GeneratorExit while it was imported: odd",
    "raise RuntimeError('no database')": "RuntimeError: no database",
}

#: A class that leaves when the service is made of it.
MADE = """
    import sys
    import daemons

    class X(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def __init__(self, options=None):
            sys.exit(0)

        def respond(self, message):
            return message
"""

every_case = pytest.mark.parametrize(("text", "said"), LEAVING.items(), ids=list(LEAVING))


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD)
    folder.write("x", "[daemon]\nservice = x:X\nport = 0\n")
    return folder


@pytest.mark.parametrize("processes", ["1", "2"])
@every_case
def test_run_ends_with_1_and_a_traceback(suite: Folder, text: str, said: str, processes: str) -> None:
    suite.module("x", text)
    ended = daemons(suite.path, "run", "x", "--processes", processes)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert 'x.py", line 1, in <module>' in ended.stderr
    assert ended.stderr.endswith(f"\nx: a bug: {said}\n")


@pytest.mark.parametrize(
    "options", [(), ("--processes", "2"), ("--detach",)], ids=lambda words: " ".join(words) or "one process"
)
def test_likewise_of_a_service_that_leaves_when_it_is_made(suite: Folder, options: tuple[str, ...]) -> None:
    suite.module("x", MADE)
    ended = daemons(suite.path, "run", "x", *options)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Traceback" in ended.stderr
    assert ended.stderr.endswith("\nx: a bug: LeavingError: X called sys.exit(0) while it was made\n")


@every_case
def test_check_and_list_tell_of_it_and_of_the_others(suite: Folder, text: str, said: str) -> None:
    suite.module("x", text)
    checked = daemons(suite.path, "check")
    assert (checked.returncode, checked.stdout) == (100, "")
    assert checked.stderr == f"conf/x.ini [daemon] x:X: cannot be imported: {said}\n"
    listed = daemons(suite.path, "list")
    assert (listed.returncode, listed.stdout.split()[0]) == (100, "launcelot")
    assert listed.stderr == f"conf/x.ini: its module cannot be imported: {said}\n"


@every_case
def test_show_ends_with_1(suite: Folder, text: str, said: str) -> None:
    suite.module("x", text)
    shown = daemons(suite.path, "show", "x")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.endswith(f"\nx: a bug: {said}\n")
