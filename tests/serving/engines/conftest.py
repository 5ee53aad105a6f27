"""Fixtures for the tests of engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.engines.pools import Moody
from tests.serving.engines.worker_kernel import WorkerKernel


@pytest.fixture
def moody() -> Iterator[Moody]:
    service = Moody()
    yield service
    service.go_on.set()


@pytest.fixture
def kernel() -> WorkerKernel:
    """Two workers, both ready."""
    kernel = WorkerKernel(2)
    kernel.begin()
    kernel.all_ready()
    return kernel
