"""How many may come, and how long they may take."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from daemons.serving.guards.budget import DEFAULT
from daemons.settings.values import COUNT, DURATION, FACTOR, RATE, SIZE, optional, setting


@dataclass(frozen=True)
class Limits:
    """The section [limits]: every phase has a total deadline, every resource a bound.  In seconds."""

    max_connections: int | None = setting(
        optional("auto", COUNT),
        None,
        "connections served at once, over all listeners and processes; the next ones wait unaccepted in the "
        "kernel's queue. auto: 1000, under forks 200, under pool and loop 10000; always below the descriptor limit",
    )
    max_per_peer: int | None = setting(
        optional("auto", COUNT),
        None,
        "connections of one peer at once; more are closed. A peer is an IPv4 address or an IPv6 network of 64 bits. "
        "auto: half of max_connections, and no limit for loopback and Unix peers",
    )
    max_rate: float | None = setting(
        optional("off", RATE), None, "new connections taken per second, minute or hour; the next ones wait unaccepted"
    )
    amplification: float = setting(
        FACTOR,
        1.0,
        "over UDP: how many times as long as its question an answer may be; one that is longer is not sent, for "
        "who is said to ask may be whom the answer is to flood. Peers on this machine are exempt",
    )
    receive_buffer: int | None = setting(
        optional("auto", SIZE),
        None,
        "over UDP, bytes of the kernel's buffer for datagrams that have not been read (SO_RCVBUF, socket(7)); those "
        "that do not fit are dropped, and counted by `daemons stats`. The kernel gives at most net.core.rmem_max. "
        "auto: 1MiB",
    )
    spool: int | None = setting(
        optional("off", SIZE),
        None,
        "octets of answers that are kept for a peer who sends more before it reads them, above 1MiB in a file; off: "
        "nothing is read from it until it has taken them",
    )
    body: int | None = setting(
        optional("auto", SIZE),
        None,
        "over HTTP, octets of a request's body, which is held in memory until it is complete; a longer one is refused. "
        "auto: 1MiB; for JSON-RPC, also on lines, 256KiB; for a site of files that nobody writes to, 64KiB",
    )
    held: int = setting(
        SIZE,
        DEFAULT,
        "bytes of unfinished messages and unsent replies that one process holds for all peers together. Beyond half of "
        "it only the oldest unfinished message, and messages of up to 64KiB, are read further; beyond all of it the "
        "connections without progress for the longest time are closed",
    )
    response: int = setting(
        SIZE,
        64 * 1024**2,
        "over HTTP, bytes that a handler, or the write() of a WSGI application, may write before the response is sent, "
        "which is when it is complete; above 256KiB they are in a temporary file. More raises ResponseTooLarge in the "
        "handler. Files that SimpleHTTPRequestHandler sends, and what an application yields, do not count",
    )
    handshake_timeout: float = setting(DURATION, 10.0, "total time for what comes before the first message, as TLS")
    message_timeout: float = setting(DURATION, 30.0, "total time from a message's first byte to its last")
    idle_timeout: float = setting(
        DURATION, 300.0, "time between two messages; under a raw handler, time for one operation"
    )
    write_timeout: float = setting(DURATION, 30.0, "total time for the peer to take one reply")
    conversation_timeout: float = setting(DURATION, 3600.0, "total time for a raw handler, whose messages nobody sees")
    drain_timeout: float = setting(
        DURATION, 10.0, "time to finish what is in progress after SIGTERM; keep it below supervisord's stopwaitsecs"
    )

    @cached_property
    def shortest(self) -> float:
        """The shortest of the deadlines that connections are held to."""
        return min(
            self.handshake_timeout,
            self.message_timeout,
            self.idle_timeout,
            self.write_timeout,
            self.conversation_timeout,
        )


@lru_cache(maxsize=1024)
def is_local(host: str) -> bool:
    """Whether a peer is of this machine: a Unix peer, or one of the loopback, IPv4 in IPv6 included."""
    if host == "unix":
        return True
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class TokenBucket:
    """A token bucket: `rate` events a second, of which one second's worth may come at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._depth = max(1.0, rate)
        self._tokens = self._depth
        self._clock = clock
        self._stamp = clock()

    def take(self) -> None:
        """Count one event.  It may be taken on credit; then `wait` says how long to pause."""
        self._fill()
        self._tokens -= 1

    def wait(self) -> float:
        """Seconds until the next event may come, 0.0 if now."""
        self._fill()
        return max(0.0, (1 - self._tokens) / self._rate) if self._tokens < 1 else 0.0

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._depth, self._tokens + (now - self._stamp) * self._rate)
        self._stamp = now


class ConnectionCounter:
    """How many connections each peer has.  Its user locks it."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, int] = {}

    def enter(self, peer: Hashable) -> int:
        """Count one more; returns how many the peer has now."""
        count = self._counts[peer] = self._counts.get(peer, 0) + 1
        return count

    def leave(self, peer: Hashable) -> None:
        count = self._counts.get(peer, 0) - 1
        if count > 0:
            self._counts[peer] = count
        else:
            self._counts.pop(peer, None)
