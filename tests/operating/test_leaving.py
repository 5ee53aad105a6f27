"""A module that fails, or would end the process, when it is imported: one line that points at its own line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operating.folder import GOOD, Folder
from tests.operating.live import daemons

#: Code of the module → complaint.
LEAVING = {
    "import sys; sys.exit()": "x called sys.exit(None) while it was imported",
    "import sys; sys.exit(0)": "x called sys.exit(0) while it was imported",
    "import sys; sys.exit('no database')": "x called sys.exit('no database') while it was imported",
    "import os; os._exit(0)": "x called os._exit(0) while it was imported",
    "import os; os.fork() or os._exit(0); os.wait(); raise OSError('no database')": "x.py line 1: OSError: no database",
    "raise GeneratorExit('odd')": "x.py line 1: GeneratorExit: odd",
    "raise RuntimeError('no database')": "x.py line 1: RuntimeError: no database",
    "import daemons\n\n\ndef f(:\n": "x.py line 4: SyntaxError: invalid syntax",
    "x = 1\n  y = 2\n": "x.py line 2: IndentationError: unexpected indent",
    "from daemons import Servic\n": "x.py line 1: ImportError: cannot import name 'Servic' from 'daemons'",
    "import json\n\njson.loads('no JSON')\n": "x.py line 3: JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "from daemons import COUNT\n\nCOUNT.parse('no count')\n": "x.py line 3: ValueError: not a count; ",
    "# coding: nosuch\n": "x.py: SyntaxError: unknown encoding: nosuch",
    "class Odd(Exception):\n    def __str__(self): return 1\nraise Odd\n": (
        "x.py line 3: Odd: no reason given, as its __str__ failed: TypeError"
    ),
    "def f(depth=0):\n    f(depth + 1)\nf()\n": "x.py line 2: RecursionError: ",
}

WHERE = "conf/x.ini [daemon] service = x:X"

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
def test_run_ends_with_100_and_one_line(suite: Folder, text: str, said: str, processes: str) -> None:
    suite.module("x", text)
    ended = daemons(suite.path, "run", "x", "--processes", processes)
    assert (ended.returncode, ended.stdout) == (100, "")
    assert ended.stderr.startswith(f"x: {WHERE}: {said}")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options", [(), ("--processes", "2"), ("--detach",)], ids=lambda words: " ".join(words) or "one process"
)
def test_service_that_exits_in_init_is_100_and_one_line(suite: Folder, options: tuple[str, ...]) -> None:
    suite.module("x", MADE)
    ended = daemons(suite.path, "run", "x", *options)
    assert (ended.returncode, ended.stdout) == (100, "")
    assert ended.stderr == f"x: {WHERE}: X called sys.exit(0) while it was made\n"


@every_case
def test_check_and_list_report_it_and_the_other_daemons(suite: Folder, text: str, said: str) -> None:
    suite.module("x", text)
    checked = daemons(suite.path, "check")
    assert (checked.returncode, checked.stdout) == (100, "")
    assert checked.stderr.startswith(f"{WHERE}: {said}")
    assert checked.stderr.count("\n") == 1
    listed = daemons(suite.path, "list")
    assert (listed.returncode, listed.stdout.split()[0]) == (100, "launcelot")
    assert listed.stderr == checked.stderr


@every_case
def test_show_ends_with_100(suite: Folder, text: str, said: str) -> None:
    suite.module("x", text)
    shown = daemons(suite.path, "show", "x")
    assert (shown.returncode, shown.stdout) == (100, "")
    assert shown.stderr.startswith(f"x: {WHERE}: {said}")


def test_traceback_is_in_the_log_at_the_level_debug(suite: Folder) -> None:
    suite.module("x", "1 / 0")
    shipped = Path(__file__).resolve().parents[2] / "conf" / "logging.ini"
    suite.write("logging", shipped.read_text("utf-8").replace("level = INFO", "level = DEBUG"))
    ended = daemons(suite.path, "run", "x")
    assert ended.returncode == 100
    assert r"Traceback (most recent call last):\n" in ended.stdout
    assert ended.stderr == f"x: {WHERE}: x.py line 1: ZeroDivisionError: division by zero\n"


def test_module_with_a_nul_is_no_fault_of_pythons_own_files(suite: Folder) -> None:
    suite.module("x", "x = 1\0")
    (said,) = daemons(suite.path, "check", "x").stderr.splitlines()
    assert said.startswith(f"{WHERE}: ")
    assert said.endswith(" cannot contain null bytes")
    assert "importlib" not in said
