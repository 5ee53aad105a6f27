"""Projects with a supervisord of their own: one for all tests that leave it as it was, or a fresh one each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.project import Project


@pytest.fixture(scope="session")
def _running() -> Iterator[Project]:
    project = Project()
    try:
        project.run()
        yield project
    finally:
        project.end()


@pytest.fixture
def suite(_running: Project) -> Project:
    """A project whose supervisord runs, and in it every daemon, as shipped."""
    _running.restore()
    return _running


@pytest.fixture
def project() -> Iterator[Project]:
    """A project of the test's own, in which nothing runs yet."""
    project = Project()
    try:
        yield project
    finally:
        project.end()
