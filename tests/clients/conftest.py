"""Fixtures of tests/operating: a project folder for each test, and restored process state."""

from tests.operating.conftest import _as_found, folder

__all__ = ["_as_found", "folder"]
