"""What is asked of every contestant: so many connections, so many questions in flight, or one request for ever."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.web import HELLO, JSON_RPC, LARGE_FILE, SMALL_FILE, SMALL_FILE_CLOSING, XML_RPC, Request

GATHER_SECONDS = 8.0  # 64 forks take 3


@dataclass(frozen=True)
class Load:
    """One way to visit Sir Launcelot, or a web server."""

    name: str
    what: str
    mode: str
    """persistent, pipelined or conversations: see load.c. A request is asked by wrk."""
    connections: int
    in_flight: int = 1
    """Questions, on each connection."""
    request: Request | None = None
    reference: str = "c"
    """The contestant with which the others are drawn."""
    gather_seconds: float = GATHER_SECONDS
    """How long the warm-up is put off until each connection has had an answer, at most."""

    @property
    def words(self) -> tuple[str, ...]:
        """The generator's arguments."""
        return (self.mode, "-c", str(self.connections), "-k", str(self.in_flight), "-g", str(self.gather_seconds))

    def window(self, seconds: float) -> float:
        """How long a window of `seconds` is: wrk knows whole ones only, and one begun is measured to its end."""
        return seconds if self.request is None else math.ceil(seconds)

    @property
    def unit(self) -> str:
        """What is counted per second."""
        return "conversations" if self.mode == "conversations" else "requests"


def _of_web(name: str, what: str, reference: str, request: Request) -> Load:
    """A load of HTTP; all of them have 64 connections."""
    return Load(name, what, "http", 64, request=request, reference=reference)


LOADS = {
    load.name: load
    for load in (
        Load("persistent", "64 persistent connections", "persistent", 64),
        Load("thousand", "1,000 persistent connections", "persistent", 1000),
        Load("conversations", "conversations of three questions, 64 at a time", "conversations", 64),
        Load("pipelined", "16 questions in flight on each of 64 connections", "pipelined", 64, 16),
        # An engine that serves one visitor after another is asked by one.
        Load("single", "one persistent connection", "persistent", 1),
        _of_web("file", "a file of 1 KiB", "nginx", SMALL_FILE),
        _of_web("large", "a file of 64 KiB", "nginx", LARGE_FILE),
        _of_web("closing", "a file of 1 KiB, a connection for each", "nginx", SMALL_FILE_CLOSING),
        _of_web("hello", "five octets from Python", "gunicorn", HELLO),
        _of_web("xmlrpc", "calls of add(3, 5) by XML-RPC", "stock-xmlrpc", XML_RPC),
        _of_web("jsonrpc", "calls of add(3, 5) by JSON-RPC", "stock-jsonrpc", JSON_RPC),
    )
}

IDLE_CONNECTIONS = 5000


@dataclass(frozen=True)
class Heard:
    """What the generator reports of one window, with its own names; load.c says what each is."""

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
    """Connections that got not one answer in the window."""
    unfinished: int
    """Connections whose last question was not answered half a second after the window."""
    all_answered_ms: float | None
    """Until each connection had its first answer; None if some had none when the warm-up began all the same."""
    p50_us: float
    p99_us: float
    max_us: float
    cpu: float
    """The generator's own, as a share of one core."""

    @property
    def rate(self) -> float:
        """Conversations a second where whole conversations are the load, requests a second elsewhere."""
        return self.conversations_per_second if self.mode == "conversations" else self.requests_per_second
