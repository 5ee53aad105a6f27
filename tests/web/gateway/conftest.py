"""A scripted upstream server, and an httpd in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemons.httpd import Httpd
from tests.serving.running import Within
from tests.web.gateway.forwarding import in_front
from tests.web.scripted_upstream import scripted


@pytest.fixture
def upstream() -> Iterator[tuple[Within, Any]]:
    with scripted() as found:
        yield found


@pytest.fixture
def front(tmp_path: Path, upstream: tuple[Within, Any]) -> Iterator[Httpd]:
    with closing(in_front(tmp_path, f"127.0.0.1:{upstream[0].address[1]}")) as httpd:
        yield httpd
