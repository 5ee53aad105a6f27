"""Fixtures shared with the tests of other daemons."""

from __future__ import annotations

from tests.operating.conftest import _as_found, folder
from tests.serving.conftest import process, within

__all__ = ["_as_found", "folder", "process", "within"]
