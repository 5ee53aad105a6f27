"""Loads: numbers of connections, of questions in flight, or one repeated HTTP request."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.web import HELLO, JSON_RPC, LARGE_FILE, SMALL_FILE, SMALL_FILE_CLOSING, XML_RPC, Request

GATHER_SECONDS = 8.0  # 64 forks take 3


@dataclass(frozen=True)
class Load:
    """One kind of load on Sir Launcelot, on a web server, or on a cache."""

    name: str
    what: str
    mode: str
    """persistent, pipelined or conversations, see load.c; http for a request sent by wrk."""
    connections: int
    in_flight: int = 1
    """Questions in flight on each connection."""
    request: Request | None = None
    reference: str = "c"
    """The contestant to which the others are compared in pictures."""
    topic: str = "launcelot"
    """The requests: Sir Launcelot's questions, or get or set, see load.c."""
    gather_seconds: float = GATHER_SECONDS
    """Maximum seconds to wait before the warm-up until each connection has had a reply."""

    @property
    def words(self) -> tuple[str, ...]:
        """Return the generator's arguments."""
        counts = ("-c", str(self.connections), "-k", str(self.in_flight), "-g", str(self.gather_seconds))
        return (self.mode, *counts, "-t", self.topic)

    def window(self, seconds: float) -> float:
        """Return the length of a window of `seconds`, rounded up for wrk, which supports whole seconds only."""
        return seconds if self.request is None else math.ceil(seconds)

    @property
    def unit(self) -> str:
        """The unit that is counted per second."""
        return "conversations" if self.mode == "conversations" else "requests"


def _of_web(name: str, what: str, reference: str, request: Request) -> Load:
    """Return an HTTP load with 64 connections."""
    return Load(name, what, "http", 64, request=request, reference=reference)


LOADS = {
    load.name: load
    for load in (
        Load("persistent", "64 persistent connections", "persistent", 64),
        Load("thousand", "1,000 persistent connections", "persistent", 1000),
        Load("conversations", "conversations of three questions, 64 at a time", "conversations", 64),
        Load("pipelined", "16 questions in flight on each of 64 connections", "pipelined", 64, 16),
        # An engine that serves one connection at a time gets one client.
        Load("single", "one persistent connection", "persistent", 1),
        _of_web("file", "a file of 1 KiB", "nginx", SMALL_FILE),
        _of_web("large", "a file of 64 KiB", "nginx", LARGE_FILE),
        _of_web("closing", "a file of 1 KiB, a connection for each", "nginx", SMALL_FILE_CLOSING),
        _of_web("hello", "five bytes from Python", "gunicorn", HELLO),
        _of_web("xmlrpc", "calls of add(3, 5) by XML-RPC", "stock-xmlrpc", XML_RPC),
        _of_web("jsonrpc", "calls of add(3, 5) by JSON-RPC", "stock-jsonrpc", JSON_RPC),
        Load("get", "gets of 100 bytes", "persistent", 64, reference="memcached", topic="get"),
        Load("set", "sets of 100 bytes", "persistent", 64, reference="memcached", topic="set"),
    )
}

IDLE_CONNECTIONS = 5000


@dataclass(frozen=True)
class Measurement:
    """The generator's report on one window, with its own names, described in load.c."""

    mode: str
    connections: int
    in_flight: int
    seconds: float
    requests: int
    requests_per_second: float
    conversations: int
    conversations_per_second: float
    errors: int
    wrong: int
    starved: int
    """Connections without any reply in the window."""
    unfinished: int
    """Connections whose last question was not answered within half a second after the window."""
    all_answered_ms: float | None
    """Time until each connection had its first reply; None if some had none when the warm-up began."""
    p50_us: float
    p99_us: float
    max_us: float
    cpu: float
    """CPU use of the generator, as a share of one core."""

    @property
    def rate(self) -> float:
        """Conversations per second for loads of whole conversations, otherwise requests per second."""
        return self.conversations_per_second if self.mode == "conversations" else self.requests_per_second
