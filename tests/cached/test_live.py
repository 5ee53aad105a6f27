"""The cache over sockets: its clients, its engines, and refused settings."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheServerError

from daemons.cached import Cached
from daemons.serving.pump import Pump
from tests.operating.conftest import folder as folder
from tests.operating.folder import Folder
from tests.operating.live import daemons
from tests.serving.conftest import within as within
from tests.serving.running import Within


@pytest.fixture(params=["threads", "pool", "loop"])
def server(request: pytest.FixtureRequest, within: Callable[..., Within]) -> Within:
    return within(request.param, Pump.for_service(Cached()))


def test_commands_of_pymemcache(server: Within) -> None:
    client = Client(server.address, timeout=15, default_noreply=False)
    assert client.set("a", b"1", expire=60)
    assert client.get("a") == b"1"
    assert not client.add("a", b"2")
    assert client.replace("a", b"3")
    assert client.append("a", b"4")
    assert client.prepend("a", b"2")
    value, version = client.gets("a")
    assert value == b"234"
    assert client.cas("a", b"5", version) is True
    assert client.cas("a", b"6", version) is False
    assert client.incr("a", 10) == 15
    assert client.decr("a", 20) == 0
    assert client.touch("a", 60)
    assert client.get("a") == b"0 "
    assert client.set_many({f"k{number}": b"%d" % number for number in range(500)}) == []
    assert len(client.get_many([f"k{number}" for number in range(1000)])) == 500
    assert client.delete("a")
    assert client.get("a") is None
    assert client.version().startswith(b"1.6.")
    assert client.stats()[b"curr_items"] == 500
    assert client.set("big", b"x" * 1024**2)
    with pytest.raises(MemcacheServerError):
        client.set("big", b"x" * (1024**2 + 1))
    assert client.get("big") is None
    assert client.flush_all()
    assert client.get_many(["k1", "k2"]) == {}
    client.set("a", b"1", noreply=True)
    assert client.get("a") == b"1"
    client.quit()


def test_clients_change_one_number_at_the_same_time_without_loss(server: Within) -> None:
    client = PooledClient(server.address, timeout=30, default_noreply=False)
    client.set("n", b"0")
    together = threading.Barrier(8)

    def count(_: int) -> None:
        together.wait(30)
        for _ in range(50):
            client.incr("n", 1)
            assert client.get("n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert client.get("n") == b"400"
    assert client.stats()[b"get_hits"] == 401
    client.close()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("daemon.listen=udp://127.0.0.1:0", "memcached's text protocol does not run over UDP"),
        ("daemon.engine=forks", "peers share memory"),
        ("daemon.processes=2", "peers share memory"),
        ("cached.item=65MiB", "item is larger than memory"),
        ("cached.memory=lots", "not a size"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting: str, reason: str, folder: Folder) -> None:
    folder.write("cached", "[daemon]\nservice = cached\nport = 0\n")
    done = daemons(folder.path, "run", "cached", "--set", setting)
    assert done.returncode != 0
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
