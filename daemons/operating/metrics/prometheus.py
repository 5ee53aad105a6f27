"""A daemon's figures for Prometheus, over HTTP: ``[metrics] listen = tcp://127.0.0.1:9101``.

The endpoint is a server under `loop`, polled by the leader of the daemon: the serving process or, with several, the
process that supervises them.  So it needs no thread, which could not be started before a fork, and no process.  A slow
scraper delays nothing, since the loop never blocks.  A response is computed in about a millisecond.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from daemons.framings import Until
from daemons.operating.metrics.scoreboard import Scoreboard
from daemons.operating.metrics.stats import Figures, figures
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import Service, Talk
from daemons.serving.daemon import Daemon
from daemons.serving.engines import stream_server
from daemons.serving.guards.limits import Limits
from daemons.serving.poller import Source
from daemons.serving.pump import Pump

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from daemons.operating.config.sections import Settings

log = logging.getLogger(__name__)

#: A scraper needs one short connection; idle connections must not keep it waiting.
LIMITS = Limits(max_connections=32, handshake_timeout=2.0, message_timeout=2.0, idle_timeout=2.0, write_timeout=2.0)

#: Request line, RFC 9112, section 3.
_REQUEST = re.compile(rb"(?P<method>[A-Z]+) (?P<path>/[^ ?\r\n]*)(?:\?[^ \r\n]*)? HTTP/1\.[01]\r\n")


class Leader(Protocol):
    """The leader of a daemon: a `Daemon`, or the `Prefork` that supervises several processes."""

    on_tick: list[Callable[[float], None]]
    on_close: list[Callable[[], None]]

    def watch(self, source: Source, action: Callable[[], None], /) -> None:
        """Call `action` whenever `source` is readable."""


class Endpoint(Daemon):
    """Server of the metrics in `scoreboard` on `listeners`, polled by a leader."""

    def __init__(self, scoreboard: Scoreboard, listeners: Sequence[socket.socket]) -> None:
        handler = Pump.for_service(Exposition(scoreboard))
        servers = [stream_server("loop").adopt(listener, handler) for listener in listeners]
        for server in servers:
            server.limits = LIMITS
        super().__init__(servers)

    def join(self, leader: Leader) -> None:
        """Let `leader` poll this endpoint, and close it at its end."""
        self.turn()
        leader.watch(self, self.turn)
        leader.on_tick.append(lambda now: self.turn())
        leader.on_close.append(self.abandon)

    def fileno(self) -> int:
        """Return the poller, which is readable when a turn is due."""
        return self.poller.fileno()

    def turn(self) -> None:
        try:
            super().turn()
        except Exception:
            log.exception("metrics endpoint failed")

    def abandon(self) -> None:
        """Close everything: at the end, or in a forked child, which must not serve."""
        for server in self.servers:
            for connection in server.connections.values():
                connection.socket.close()
        super().abandon()

    def _patience(self) -> float:
        # Never wait: the leader does.
        return 0.0


class Exposition(Service):
    """Service that responds to ``GET /metrics`` and closes."""

    framing = Until(b"\r\n\r\n", limit=8192)

    def __init__(self, scoreboard: Scoreboard) -> None:
        super().__init__()
        self._scoreboard = scoreboard

    def talk(self, peer: Peer) -> Talk:
        request = _REQUEST.match((yield None))
        if request is None:
            return _response("400 Bad Request")
        if request["path"] != b"/metrics":
            return _response("404 Not Found", b"The metrics are at /metrics\n")
        if request["method"] != b"GET":
            return _response("405 Method Not Allowed", more="Allow: GET\r\n")
        from prometheus_client import CONTENT_TYPE_LATEST

        return _response("200 OK", as_text(figures(self._scoreboard)), CONTENT_TYPE_LATEST)

    def apology(self, ending: Ending) -> bytes:
        return _response("500 Internal Server Error" if ending is Ending.FAILED else "400 Bad Request")


def as_text(found: Figures) -> bytes:
    """Return the metrics in the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(found))
    return generate_latest(registry)


def complaints(settings: Settings) -> list[str]:
    """Return complaints if the endpoint cannot be served."""
    if not settings.metrics.listen or importlib.util.find_spec("prometheus_client") is not None:
        return []
    origin = settings.origins.get(("metrics", "listen"), f"conf/{settings.name}.ini")
    return [
        f"{origin} [metrics] listen: needs prometheus_client, which is not installed; "
        "pip install 'camelot-daemons[metrics]'"
    ]


class _Collector:
    """Collector of the metrics for `prometheus_client`."""

    def __init__(self, found: Figures) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        found = self._found

        def counter(name: str, text: str, value: float) -> Metric:
            family = CounterMetricFamily(f"daemons_{name}", text, labels=["daemon"])
            family.add_metric([found.name], value)
            return family

        def counters(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
            family = CounterMetricFamily(f"daemons_{name}", text, labels=["daemon", label])
            for word, value in values:
                family.add_metric([found.name, word], value)
            return family

        def gauge(name: str, text: str, value: float) -> Metric:
            family = GaugeMetricFamily(f"daemons_{name}", text, labels=["daemon"])
            family.add_metric([found.name], value)
            return family

        yield InfoMetricFamily(
            "daemons", "The daemon.", value={"daemon": found.name, "engine": found.engine, "pid": str(found.pid)}
        )
        yield gauge("start_time_seconds", "Start time of the daemon, in seconds since 1970.", found.started)
        yield gauge("silent_seconds", "Longest time without a heartbeat of any process, in seconds.", found.silent or 0)
        yield gauge("processes", "Running processes, the supervisor included.", len(found.processes))
        yield counter("worker_restarts", "Workers replaced after they died.", found.worker_restarts)
        yield counter("dropped_log_lines", "Log lines dropped because they could not be written.", found.dropped_lines)
        yield counter("dropped_log_bytes", "Bytes of the dropped log lines.", found.dropped_bytes)
        yield gauge("held_bytes", "Bytes of unfinished messages and unsent replies.", found.held)
        yield counter("held_waits", "Waits of a connection for space in [limits] held.", found.waits)
        yield counter(
            "dropped_datagrams",
            "Datagrams dropped by the kernel because a receive buffer was full.",
            found.datagrams_dropped,
        )
        yield counter("rate_pauses", "Pauses of a listener for [limits] max_rate.", found.rate_pauses)
        yield counter("full", "Times that the limit of connections was reached.", found.full)
        yield gauge("open_circuit_breakers", "Circuit breakers of upstream servers open now.", found.breakers_open)
        yield counter("circuit_breakers_opened", "Times that a circuit breaker has opened.", found.breakers_opened)
        yield counter("stalls", "Stalls of more than a second.", found.stalls)
        yield gauge("stalled_seconds", "Duration of the current stall, in seconds; 0 without one.", found.stalled or 0)
        yield counter("accepted", "Connections accepted.", found.accepted)
        yield gauge("active", "Open connections.", found.active)
        yield counters("refused", "Connections refused, by reason.", "reason", found.refused.items())
        yield counter("lost", "Conversations lost with a process that died.", found.lost)
        yield counter("messages", "Messages answered.", found.messages)
        yield counter("received_bytes", "Bytes received.", found.received)
        yield counter("sent_bytes", "Bytes sent.", found.sent)
        yield counters("conversations", "Conversations ended, by ending.", "ending", found.endings.items())
        duration = HistogramMetricFamily(
            "daemons_conversation_seconds", "Duration of ended conversations.", labels=["daemon"]
        )
        buckets = [("+Inf" if bound == float("inf") else repr(bound), number) for bound, number in found.durations]
        duration.add_metric([found.name], buckets, found.seconds)
        yield duration


def _response(status: str, body: bytes = b"", kind: str = "text/plain; charset=utf-8", more: str = "") -> bytes:
    """Return a complete HTTP response that closes the connection."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close"
    return f"{head}\r\n\r\n".encode("ascii") + body
