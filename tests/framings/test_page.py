"""What docs/framings.md shows is what happens; and the framing that it writes keeps the contract."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PAGE = Path(__file__).parents[2] / "docs" / "framings.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Run the page's examples, check their output, and return the names that they define."""
    known: dict[str, Any] = {}
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    for number, block in enumerate(BLOCKS):
        test = doctest.DocTestParser().get_doctest(block, known, f"block {number}", str(PAGE), 0)
        runner.run(test, out=said.append, clear_globs=False)
        known = test.globs
    assert "".join(said) == ""
    assert runner.summarize(verbose=False).attempted > 20
    return known


def test_the_page_shows_what_happens(names: dict[str, Any]) -> None:
    assert names["messages"]


NETSTRINGS = st.lists(st.binary(max_size=12).map(lambda octets: b"%d:%b," % (len(octets), octets)), max_size=4)


@settings(max_examples=50)
@given(data=NETSTRINGS.map(b"".join) | st.text("0123:,", max_size=40).map(str.encode) | st.binary(max_size=40))
def test_the_framing_that_it_writes_keeps_the_contract(names: dict[str, Any], data: bytes) -> None:
    outcomes = []
    for size in (1, 7, 1000):
        decoder = names["Netstrings"](limit=10).decoder()
        messages = [m for at in range(0, len(data), size) for m in decoder.decode(data[at : at + size])]
        messages += decoder.finish()
        outcomes.append((messages, type(decoder.error)))
    assert outcomes[0] == outcomes[1] == outcomes[2]
