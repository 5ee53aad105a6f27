"""Fixtures: the site with its own files, and a client without a socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemons.webapp import Webapp
from tests.accounts.files import write_users
from tests.operating.conftest import folder
from tests.webapp.visitor import Visitor

__all__ = ["folder"]


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Webapp]:
    """Makes one; all that a test makes have the same files.  Its users' passwords are cheap to verify."""
    (tmp_path / "run").mkdir()
    write_users(tmp_path / "run" / "webapp.users", brandon="atigdng", sam="xyzzy")

    def make(**options: Any) -> Webapp:
        names = {"key": "webapp.key", "database": "webapp.db", "users": "webapp.users"}
        files = {option: str(tmp_path / "run" / name) for option, name in names.items()}
        return Webapp(Webapp.Options(**{**files, **options}))

    return make


@pytest.fixture
def visitor(site: Callable[..., Webapp]) -> Visitor:
    """Return a client that does not follow redirects by default, and checks PEP 3333 at each request."""
    return Visitor(site())
