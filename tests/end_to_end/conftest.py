"""Fixtures: projects with their own supervisord, shared by tests that leave it unchanged, or one per test."""

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
    """A project in which supervisord runs all shipped daemons."""
    _running.restore()
    return _running


@pytest.fixture
def project() -> Iterator[Project]:
    """A new project without running processes."""
    project = Project()
    try:
        yield project
    finally:
        project.end()
