"""The site, with files of its own, and a visitor without a socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemons.webapp import Webapp
from tests.operating.conftest import folder
from tests.webapp.visitor import Visitor

__all__ = ["folder"]


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Webapp]:
    """Makes one; all that a test makes have the same files."""

    def make(**options: Any) -> Webapp:
        files = {"key": str(tmp_path / "run" / "webapp.key"), "database": str(tmp_path / "run" / "webapp.db")}
        return Webapp(Webapp.Options(**{**files, **options}))

    return make


@pytest.fixture
def visitor(site: Callable[..., Webapp]) -> Visitor:
    """A browser that follows no redirect unless told to; PEP 3333 is checked at each request."""
    return Visitor(site())
