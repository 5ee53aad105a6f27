"""Fixtures: a project folder per test, leak checks, and descriptors for ten thousand connections."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import project
from tests.operating.conftest import _as_found, folder
from tests.serving.conftest import kept, process, within

__all__ = ["_as_found", "folder", "kept", "many_descriptors", "process", "project", "within"]

#: Descriptors that a test with ten thousand connections needs; its daemon needs as many.
MANY = 11_000


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Raise the descriptor limit to the maximum, and restore it afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < MANY:
        pytest.skip(f"the hard limit of descriptors is {before[1]}, and {MANY} are needed: ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
