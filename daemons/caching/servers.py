"""Several servers of a cache: which one has a key, and which of them is down.

A server that fails is not used until it answers again, which a thread checks.  Meanwhile its keys count as missing; no
caller waits for it, and no other server gets its keys, which would be out of date when it returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pymemcache.client.base import PooledClient, normalize_server_spec
from pymemcache.client.hash import HashClient
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import (
    MemcacheError,
    MemcacheIllegalInputError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownError,
)

T = TypeVar("T")

#: The default port of memcached, on this machine.
DEFAULT = ("127.0.0.1:11211",)

#: Seconds to wait for a connection, and for a reply: on one network, a thousand times as long as a cache takes.
TIMEOUT = 0.2

#: Seconds between two checks of a server that is down.
PROBE = 1.0

#: Most idle connections to a server.
CONNECTIONS = 64


def hash_client(servers: Sequence[str] = DEFAULT) -> HashClient:
    """Return a client of pymemcache for one server or several, ``HOST:PORT``, as an unreliable cache needs it.

    Rendezvous hashing distributes the keys.  A server that fails is not used for two seconds; then, and where a server
    refuses a command, a get returns None, and a set False."""
    return HashClient(
        list(servers),
        connect_timeout=TIMEOUT,
        timeout=TIMEOUT,
        ignore_exc=True,
        dead_timeout=2,
        retry_attempts=1,
        no_delay=True,
        use_pooling=True,
        max_pool_size=CONNECTIONS,
    )


class Server:
    """One server.  Thread-safe."""

    def __init__(self, address: str, timeout: float) -> None:
        self.address = address
        self._timeout = timeout
        self.alive = True
        self._client = self._new_client()

    def _new_client(self) -> PooledClient:
        return PooledClient(
            normalize_server_spec(self.address),
            connect_timeout=self._timeout,
            timeout=self._timeout,
            no_delay=True,
            default_noreply=False,
        )

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of pymemcache's client.

        Raises `OSError` if the server does not answer, `MemcacheError` if it refuses the command, and `ValueError` for
        an invalid key, which is not sent."""
        try:
            return getattr(self._client, method)(*arguments, **options)
        except MemcacheIllegalInputError as error:
            raise ValueError(f"not a key of a cache: {error}; use key()") from error
        except (MemcacheUnexpectedCloseError, MemcacheUnknownError) as error:
            raise ConnectionError(str(error)) from error

    def probe(self) -> bool:
        """Return whether the server answers."""
        self.close()  # its old connections may be broken
        self._client = self._new_client()
        try:
            self.call("version")
        except (OSError, MemcacheError):
            return False
        return True

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()


class Servers:
    """The servers of a cache.  Thread-safe."""

    def __init__(self, addresses: Sequence[str] = DEFAULT, timeout: float = TIMEOUT) -> None:
        if not addresses:
            raise ValueError("no server of the cache is named; HOST:PORT is expected")
        self._servers = {address: Server(address, timeout) for address in addresses}
        self._hash = RendezvousHash([*self._servers])
        self._lock = threading.Lock()
        self._probing = False
        self._closed = threading.Event()
        #: Number of calls that failed because a server did not answer.
        self.failures = 0

    def of(self, key: str) -> Server | None:
        """Return the server of a key; None if it is down."""
        server = self._servers[self._hash.get_node(key)]
        return server if server.alive else None

    def attempt(self, server: Server, call: Callable[[Server], T], otherwise: T) -> T:
        """Return the result of a call; `otherwise` if the server does not answer or refuses the command."""
        try:
            return call(server)
        except OSError:
            self._mark_as_down(server)
        except MemcacheError:
            pass  # such as a value that is too large: the server is well
        return otherwise

    def _mark_as_down(self, server: Server) -> None:
        with self._lock:
            self.failures += 1
            server.alive = False
            if not self._probing and not self._closed.is_set():
                self._probing = True
                threading.Thread(target=self._probe, name="cache probe", daemon=True).start()

    def _probe(self) -> None:
        """Check the servers that are down, until all have answered."""
        while not self._closed.wait(PROBE):
            for server in self._servers.values():
                if not server.alive and server.probe():
                    server.alive = True
            with self._lock:
                if all(server.alive for server in self._servers.values()):
                    self._probing = False
                    return

    def close(self) -> None:
        """Close all idle connections, and stop checking."""
        self._closed.set()
        for server in self._servers.values():
            server.close()
