"""The folder of a protected site."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.example_site import make
from tests.web.site.test_protection import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a site, and two users files outside its root: Arthur's and Robin's."""
    make(tmp_path)
    write(tmp_path / "users", Arthur="of the Britons:")
    write(tmp_path / "others", Robin="the brave")
    return tmp_path
