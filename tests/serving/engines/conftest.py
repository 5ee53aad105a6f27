"""Fixtures for the tests of engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.engines.pools import Moody


@pytest.fixture
def moody() -> Iterator[Moody]:
    service = Moody()
    yield service
    service.go_on.set()
