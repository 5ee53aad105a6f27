"""A project with a module of its own."""

from __future__ import annotations

import pytest

from tests.operating.folder import Folder
from tests.operating.loading.targets.loading import GREETER


@pytest.fixture
def project(folder: Folder) -> Folder:
    """A project with a module of its own."""
    folder.module("greeter", GREETER)
    return folder
