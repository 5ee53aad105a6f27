"""The page of the weather form, kept in a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pymemcache.client.base import Client

from daemons.cached import Cached
from daemons.serving.pump import Pump
from daemons.webapp import Webapp
from tests.serving.conftest import within as within
from tests.serving.running import Within
from tests.webapp.visitor import Visitor


@pytest.fixture
def server(within: Callable[..., Within]) -> Within:
    return within("loop", Pump.for_service(Cached()))


@pytest.fixture
def cached_site(server: Within, site: Callable[..., Webapp]) -> Iterator[Webapp]:
    made = site(cache=(f"127.0.0.1:{server.address[1]}",))
    yield made
    assert made._cache is not None
    made._cache.close()


def hits(server: Within) -> int:
    client = Client(server.address, timeout=15)
    found: int = client.stats()[b"get_hits"]
    client.close()
    return found


def test_the_second_request_is_answered_from_the_cache(
    server: Within, cached_site: Webapp, site: Callable[..., Webapp]
) -> None:
    page = Visitor(site()).get("/weather")
    visitor = Visitor(cached_site)
    first = visitor.get("/weather")
    assert hits(server) == 0
    second = visitor.get("/weather")
    assert hits(server) == 1
    assert (first.text, first.status_code) == (second.text, second.status_code) == (page.text, 200)
    assert first.headers["Content-Type"] == second.headers["Content-Type"] == page.headers["Content-Type"]


def test_pages_at_another_root_have_a_key_of_their_own(server: Within, cached_site: Webapp) -> None:
    visitor = Visitor(cached_site)
    assert "/elsewhere/zipcity.php" not in visitor.get("/weather").text
    assert "/elsewhere/zipcity.php" in visitor.get("/weather", base_url="http://localhost/elsewhere").text
    assert hits(server) == 0


def test_other_pages_and_answers_are_not_kept(server: Within, cached_site: Webapp) -> None:
    visitor = Visitor(cached_site)
    for _ in range(2):
        visitor.get("/")
        visitor.post("/zipcity.php", data={"inputstring": "Phoenix, AZ"})
    assert hits(server) == 0


def test_pages_are_rendered_without_a_cache_that_answers(site: Callable[..., Webapp]) -> None:
    made = site(cache=("127.0.0.1:1",))
    visitor = Visitor(made)
    assert [visitor.get("/weather").status_code for _ in range(3)] == [200] * 3
    assert made._cache is not None
    made._cache.close()


@pytest.mark.parametrize("text", ["127.0.0.1", "a b:1", "http://a:1", "::1:11211", "a:x"])
def test_a_cache_that_is_no_address_is_refused(text: str) -> None:
    from daemons.webapp.application import CACHES

    with pytest.raises(ValueError, match="write HOST:PORT"):
        CACHES.parse(text)
    assert CACHES.parse("a:1 [::1]:11211") == ("a:1", "[::1]:11211")
