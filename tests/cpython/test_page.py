"""The page lists the same cases as the tables."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "cpython-suites.md"


def test_page_lists_the_cases_that_cannot_pass() -> None:
    text = "".join(path.read_text("utf-8") for path in sorted(HERE.glob("test_*.py")))
    tables = re.findall(r'"(\w+\.test_\w+)"(?:: |\] = )Unlike', text)
    assert tables
    assert sorted(re.findall(r"^\| `(\w+\.test_\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)) == sorted(tables)
