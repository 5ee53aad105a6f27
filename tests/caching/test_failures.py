"""A cache that is down, silent or broken: values are computed, and no caller waits for it twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from daemons.cached import Cached
from daemons.caching import Cache
from daemons.caching.servers import Servers
from daemons.serving.pump import Pump
from tests.caching.conftest import address_of
from tests.serving.peers import eventually
from tests.serving.running import Within


@pytest.fixture
def unused() -> Iterator[int]:
    """The number of a port on which nothing listens."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_values_are_computed_without_a_server(unused: int, client: Callable[..., Cache]) -> None:
    cache = client(f"127.0.0.1:{unused}")
    assert [cache.get_or_compute("a", 60, lambda: 7) for _ in range(3)] == [7, 7, 7]
    assert not cache.set("a", 1, ttl=60)
    assert not cache.delete("a")
    assert not cache.update("a", lambda value: value, ttl=60)
    assert cache.get("a", "missing") == "missing"


def test_a_silent_server_is_asked_by_the_first_caller_only(client: Callable[..., Cache]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        cache = client(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        for number in range(1000):
            assert cache.get_or_compute(f"key:{number}", 60, lambda: 7) == 7
        # Each of these would have taken its time: the first call, and any that followed a success of the probe.
        assert cache.failures == 1


def test_a_server_that_returns_is_used_again(client: Callable[..., Cache], within: Callable[..., Within]) -> None:
    first = Within("loop", Pump.for_service(Cached()))
    cache = client(address_of(first))
    assert cache.set("a", 1, ttl=60)
    first.close()
    eventually(lambda: cache.get("a") is None)
    assert cache.get_or_compute("a", 60, lambda: 2) == 2
    within("loop", Pump.for_service(Cached()), address=("127.0.0.1", first.address[1]))
    eventually(lambda: cache.set("a", 3, ttl=60))
    assert cache.get("a") == 3


class Garbage(threading.Thread):
    """A server that answers each request with something else than memcached does."""

    def __init__(self) -> None:
        super().__init__()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(1000):
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join()


def test_a_server_of_another_protocol_counts_as_down(client: Callable[..., Cache]) -> None:
    with closing(Garbage()) as garbage:
        cache = client(f"127.0.0.1:{garbage.listener.getsockname()[1]}")
        assert [cache.get_or_compute("a", 60, lambda: 7) for _ in range(3)] == [7, 7, 7]
        assert cache.failures == 1


def test_something_else_under_a_key_is_computed_anew(server: Within, client: Callable[..., Cache]) -> None:
    cache = client(address_of(server))
    for data in (b"", b"\xff", b"7", b"[1,2]", b"[", b'{"a":1}'):
        with socket.create_connection(("127.0.0.1", server.address[1])) as peer:
            peer.sendall(b"set a 0 0 %d\r\n%b\r\n" % (len(data), data))
            assert peer.recv(100) == b"STORED\r\n"
        assert cache.get("a", "missing") == "missing"
        assert cache.get_or_compute("a", 60, lambda: 7) == 7


def test_no_server_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no server"):
        Servers([])
