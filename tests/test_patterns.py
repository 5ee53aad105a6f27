"""Regular expressions that mean the same on every Python."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[1]
MODULES = sorted(PROJECT.glob("daemons/**/*.py"))

#: Private to the standard library, and the same since 3.11.
opcodes: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

#: Debian's Python 3.11.2 does not backtrack into a group that failed inside one: `(?:;a++)*+X` matches ``;X``.
REFUSED = (opcodes.POSSESSIVE_REPEAT, opcodes.ATOMIC_GROUP)


def refused_in(pattern: str | bytes, flags: int = 0) -> list[str]:
    """Return the names of the refused operations in `pattern`."""

    def walk(items: object) -> Iterator[str]:
        if isinstance(items, parser.SubPattern | list | tuple):
            for item in items:
                if item in REFUSED:
                    yield str(item)
                yield from walk(item)

    return list(walk(parser.parse(pattern, flags).data))


def patterns_in(path: Path) -> Iterator[tuple[str | bytes, int]]:
    """Yield each pattern with its flags: the compiled ones of a module, and literals given to functions of `re`."""
    module = importlib.import_module(
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
    )
    for value in vars(module).values():
        if isinstance(value, re.Pattern):
            yield value.pattern, value.flags & ~re.UNICODE if isinstance(value.pattern, bytes) else value.flags
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.") and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str | bytes):
                yield first.value, 0


@pytest.mark.parametrize("pattern", [r"(?:;a++)*+X", rb"a*+", "(?>a)", "(?:b|(?:c?+))", "a{2,3}+"])
def test_possessive_and_atomic_groups_are_found(pattern: str | bytes) -> None:
    assert refused_in(pattern)


def test_no_pattern_has_a_possessive_or_atomic_group() -> None:
    assert not [
        (str(path.relative_to(PROJECT)), pattern)
        for path in MODULES
        if path.name != "__main__.py"
        for pattern, flags in patterns_in(path)
        if refused_in(pattern, flags)
    ]
