"""CPython's test suites, from the ``test`` package of the running interpreter, with our servers in place of the
standard library's."""

from __future__ import annotations

import importlib.util
import re
import sys
import unittest
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import pytest


def load(name: str, **instead: ModuleType) -> Any:
    """Return a separate copy of the stock module ``test.NAME``, which imports `instead` in place of other modules.
    Skips the calling module if the interpreter lacks it."""
    try:
        spec = importlib.util.find_spec(f"test.{name}")
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.loader is None:
        pytest.skip(f"this Python came without test.{name}: make engines, for that of Debian", allow_module_level=True)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, instead):
        spec.loader.exec_module(module)
    if helper := getattr(module, "threading_helper", None):
        # With a client that is still connected it collects garbage a hundred times, which takes a minute in a process
        # of this size. Leaks are detected here after each test anyway (tests/leaks.py).
        vars(module)["threading_helper"] = like(helper, threading_cleanup=lambda *original_values: None)
    return module


def like(module: ModuleType, **others: Any) -> ModuleType:
    """Return a copy of `module` with some attributes replaced."""
    made = ModuleType(module.__name__, module.__doc__)
    vars(made).update(vars(module), **others)
    return made


class Unlike(NamedTuple):
    """The reason why a case cannot pass, and a regular expression that its failure must match."""

    reason: str
    says: str


def cases(
    suite: Any, variant: str, unlike: Mapping[str, Unlike], *, of: type, without: Collection[str] = ()
) -> dict[str, Any]:
    """Return the subclasses of `of` in a suite, to be collected by pytest, with `variant` in their names.

    `unlike` lists cases that cannot pass, by ``Class.test``.  A listed case that passes is an error; a case that the
    suite of this Python lacks is not."""
    found: dict[str, Any] = {}
    for name, kind in vars(suite).items():
        if isinstance(kind, type) and issubclass(kind, unittest.TestCase) and issubclass(kind, of):
            titles = [title for title in dir(kind) if title.startswith("test") and callable(getattr(kind, title))]
            if titles and name not in without:
                tests = {title: _as_expected(getattr(kind, title), unlike.get(f"{name}.{title}")) for title in titles}
                if getattr(kind, "__unittest_skip__", False):
                    tests.update(dict.fromkeys(titles[1:]))  # one line says it
                found[f"{name}_{variant}"] = type(name, (kind,), tests)
    return found


def _as_expected(stock: Any, unlike: Unlike | None) -> Any:
    if unlike is None:
        return stock

    @wraps(stock)
    def test(self: Any) -> None:
        self.subTest = lambda *_, **__: nullcontext()  # which would report a failure, and go on
        try:
            stock(self)
        except Exception as error:
            if not re.search(unlike.says, f"{type(error).__name__}: {error}"):
                raise
            pytest.xfail(unlike.reason)
        pytest.fail("this passes: take it from the table")

    return test
