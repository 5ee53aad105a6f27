"""A site, and an environment without proxies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

# Before any test: `_as_found` would have each import the packages of others anew, which know each other's classes.
import daemons.clients.web.cache
import daemons.clients.web.pages
import daemons.clients.web.robots  # noqa: F401
from tests.clients.web.site import Request, serving
from tests.operating.conftest import _as_found
from tests.serving.conftest import within

__all__ = ["_as_found", "within"]


class Running(NamedTuple):
    """The URL of a site, and the requests it has received."""

    url: str
    received: list[Request]

    @property
    def requests(self) -> list[str]:
        """Return the methods and paths of the requests in order."""
        return [f"{each.method} {each.path}" for each in self.received]


@pytest.fixture
def site() -> Iterator[Running]:
    with serving() as (url, received):
        yield Running(url, received)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
