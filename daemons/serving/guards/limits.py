"""Limits on the number of connections, on sizes and on time."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from daemons.serving.conversation.peer import OUTBOX
from daemons.serving.guards.budget import DEFAULT
from daemons.settings.values import COUNT, DURATION, FACTOR, RATE, SIZE, optional, setting


@dataclass(frozen=True)
class Limits:
    """The section [limits]: a deadline in seconds for every phase, a bound for every resource."""

    max_connections: int | None = setting(
        optional("auto", COUNT),
        None,
        "maximum concurrent connections, over all listeners and processes; more wait in the kernel's queue. "
        "auto: 1000, under forks 200, under pool and loop 10000; always below the descriptor limit",
    )
    max_per_peer: int | None = setting(
        optional("auto", COUNT),
        None,
        "maximum concurrent connections per peer; more are closed. A peer is an IPv4 address or an IPv6 /64 network. "
        "auto: half of max_connections, and no limit for loopback and Unix peers",
    )
    max_rate: float | None = setting(
        optional("off", RATE),
        None,
        "maximum new connections per second, minute or hour; more wait in the kernel's queue",
    )
    amplification: float = setting(
        FACTOR,
        1.0,
        "UDP: maximum response size as a multiple of the request. Larger responses are dropped, because the source "
        "address may be spoofed. Loopback and Unix peers are exempt",
    )
    receive_buffer: int | None = setting(
        optional("auto", SIZE),
        None,
        "UDP: size of the kernel's receive buffer (SO_RCVBUF, socket(7)). Datagrams that do not fit are dropped, and "
        "counted by `daemons stats`. The kernel grants at most net.core.rmem_max. auto: 1MiB",
    )
    spool: int | None = setting(
        optional("off", SIZE),
        None,
        "maximum bytes of unread replies buffered for each peer; bytes beyond 1MiB are in a temporary file. off: no "
        "buffer; stop reading from a peer until it has read its replies",
    )
    outbox: int = setting(
        SIZE,
        OUTBOX,
        "maximum bytes pushed to a peer that it has not read; beyond it, the conversation ends as stuck",
    )
    body: int | None = setting(
        optional("auto", SIZE),
        None,
        "HTTP: maximum size of a request body, which is held in memory until it is complete; larger ones are refused. "
        "auto: 1MiB; for JSON-RPC, also on lines, 256KiB; for a site of static files, 64KiB",
    )
    held: int = setting(
        SIZE,
        DEFAULT,
        "maximum bytes of unfinished messages and unsent replies per process, over all connections. Beyond half of it, "
        "only the oldest unfinished message and messages of up to 64KiB are read further; beyond all of it, the "
        "connections without progress for the longest time are closed",
    )
    response: int = setting(
        SIZE,
        64 * 1024**2,
        "HTTP: maximum size of a response written by a handler, or by write() of a WSGI application; it is buffered "
        "until complete, above 256KiB in a temporary file. Writing more raises ResponseTooLarge in the handler. Files "
        "sent by SimpleHTTPRequestHandler, and bytes yielded by an application, do not count",
    )
    handshake_timeout: float = setting(
        DURATION, 10.0, "maximum time from accept until PROXY header and TLS handshake are complete"
    )
    message_timeout: float = setting(DURATION, 30.0, "maximum time from the first byte of a message to its last")
    idle_timeout: float = setting(
        DURATION,
        300.0,
        "maximum time between two messages, and before the first; under a raw handler, for one socket operation",
    )
    write_timeout: float = setting(
        DURATION,
        30.0,
        "maximum time until the kernel has taken one reply, or the next 64KiB of a file or of a reply in pieces, as "
        "the peer reads",
    )
    conversation_timeout: float = setting(DURATION, 3600.0, "maximum duration of a connection under a raw handler")
    drain_timeout: float = setting(
        DURATION, 8.0, "maximum time to finish open connections after SIGTERM; at least 2 s less than stopwaitsecs"
    )

    @cached_property
    def shortest(self) -> float:
        """The shortest timeout of a connection, in seconds."""
        return min(
            self.handshake_timeout,
            self.message_timeout,
            self.idle_timeout,
            self.write_timeout,
            self.conversation_timeout,
        )


@lru_cache(maxsize=1024)
def is_local(host: str) -> bool:
    """Return whether a peer is local: a Unix peer, or a loopback address, including IPv4-mapped IPv6."""
    if host == "unix":
        return True
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class TokenBucket:
    """Token bucket for `rate` events per second, with a burst of one second."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._depth = max(1.0, rate)
        self._tokens = self._depth
        self._clock = clock
        self._stamp = clock()

    def take(self) -> None:
        """Count one event.  The balance may become negative; then `wait` returns the pause."""
        self._fill()
        self._tokens -= 1

    def wait(self) -> float:
        """Return the seconds until the next event is allowed; 0.0: now."""
        self._fill()
        return max(0.0, (1 - self._tokens) / self._rate) if self._tokens < 1 else 0.0

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._depth, self._tokens + (now - self._stamp) * self._rate)
        self._stamp = now


class ConnectionCounter:
    """Number of connections of each peer.  Not thread-safe: the caller holds a lock."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, int] = {}

    def enter(self, peer: Hashable) -> int:
        """Add a connection, and return the peer's number of connections."""
        count = self._counts[peer] = self._counts.get(peer, 0) + 1
        return count

    def leave(self, peer: Hashable) -> None:
        count = self._counts.get(peer, 0) - 1
        if count > 0:
            self._counts[peer] = count
        else:
            self._counts.pop(peer, None)
