"""What the page lists is what the tables have."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "cpython-suites.md"


def test_the_page_lists_what_cannot_pass() -> None:
    text = "".join(path.read_text("utf-8") for path in sorted(HERE.glob("test_*.py")))
    tables = re.findall(r'"(\w+\.test_\w+)"(?:: |\] = )Unlike', text)
    assert tables
    assert sorted(re.findall(r"^\| `(\w+\.test_\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)) == sorted(tables)
