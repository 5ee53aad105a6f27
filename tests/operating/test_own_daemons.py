"""Additional daemons in a checkout, even broken ones, do not make the tests of the shipped daemons fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operating.live import environment
from tests.shipped import SHIPPED

PROJECT = Path(__file__).resolve().parents[2]

#: The test files that look at the files as shipped.
TESTS = ("tests/operating/test_shipped.py", "tests/test_docs.py", "tests/test_soak.py")

OWN = {
    "conf/good.ini": "[daemon]\nservice = own:Own\nport = 1060\n",
    "conf/broken.ini": "no section\n",
    "conf/missing.ini": "[daemon]\nservice = nosuch:Nosuch\nport = 0\n",
    "conf/bytes.ini": "\0",
    "conf.d/own.conf": "[program:good]\ncommand = daemons run good\ncolour = blue\n",
    "own.py": "import daemons\n\nclass Own(daemons.Service):\n    framing = daemons.Stream()\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project without build products, with additional daemons."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "logs", "run", "*.egg-info"
    )
    shutil.copytree(PROJECT, copy, ignore=ignored)
    for name, text in OWN.items():
        (copy / name).write_text(text)
    return copy


def command(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m WORDS`` in the copy, with the modules of the copy."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=checkout,
        env=environment(PYTHONPATH=str(checkout), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(120)
def test_tests_of_the_shipped_files_pass(checkout: Path) -> None:
    known = "not test_the_tests_that_the_pages_name_exist"  # it needs no conf/, and reads every test file
    ended = command(checkout, "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "-k", known, *TESTS)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr


def test_check_of_the_shipped_daemons_is_ok(checkout: Path) -> None:
    certificate = command(checkout, "daemons", "cert")
    assert certificate.returncode == 0, certificate.stderr
    checked = command(checkout, "daemons", "check", *SHIPPED)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"OK: {', '.join(SHIPPED)}\n"
    assert command(checkout, "daemons", "check").returncode == 100
