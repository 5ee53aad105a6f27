"""A daemon's figures for Prometheus, over HTTP: ``[metrics] listen = tcp://127.0.0.1:9101``.

The endpoint is a server like any other, under `loop`, and is polled by whoever leads the daemon: the
serving process, or with several the one that supervises them.  So it needs no thread, which could not be
before a fork, and no process of its own; and since it works by readiness, a scraper that is slow holds up
nobody.  An answer is computed in about a millisecond.
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

#: One scraper needs one connection, for a moment; those that say nothing must not keep it waiting for long.
LIMITS = Limits(max_connections=32, handshake_timeout=2.0, message_timeout=2.0, idle_timeout=2.0, write_timeout=2.0)

#: RFC 9112, sections 2.1 and 3: of a request, all that matters here.
_REQUEST = re.compile(rb"(?P<method>[A-Z]+) (?P<path>/[^ ?\r\n]*)(?:\?[^ \r\n]*)? HTTP/1\.[01]\r\n")


class Leader(Protocol):
    """Whoever leads: a `Daemon`, or the `Prefork` that supervises several."""

    on_tick: list[Callable[[float], None]]
    on_close: list[Callable[[], None]]

    def watch(self, source: Source, action: Callable[[], None], /) -> None:
        """Call `action` whenever `source` can be read."""


class Endpoint(Daemon):
    """Serves the figures of `scoreboard` on `listeners`, one turn at a time, for another that leads."""

    def __init__(self, scoreboard: Scoreboard, listeners: Sequence[socket.socket]) -> None:
        handler = Pump.carrying(Exposition(scoreboard))
        servers = [stream_server("loop").adopt(listener, handler) for listener in listeners]
        for server in servers:
            server.limits = LIMITS
        super().__init__(servers)

    def join(self, leader: Leader) -> None:
        """Be polled by `leader` from now on, and leave with it."""
        self.turn()
        leader.watch(self, self.turn)
        leader.on_tick.append(lambda now: self.turn())
        leader.on_close.append(self.abandon)

    def fileno(self) -> int:
        """What can be read when there is something to do."""
        return self.poller.fileno()

    def turn(self) -> None:
        try:
            super().turn()
        except Exception:
            log.exception("the metrics failed")

    def abandon(self) -> None:
        """Let go of everything: at the end, or in a forked child, to which none of it belongs."""
        for server in self.servers:
            for connection in server.connections.values():
                connection.socket.close()
        super().abandon()

    def _patience(self) -> float:
        # The leader waits.
        return 0.0


class Exposition(Service):
    """Answers ``GET /metrics``, and closes."""

    framing = Until(b"\r\n\r\n", limit=8192)

    def __init__(self, scoreboard: Scoreboard) -> None:
        super().__init__()
        self._scoreboard = scoreboard

    def talk(self) -> Talk:
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
    """The figures in the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(found))
    return generate_latest(registry)


def complaints(settings: Settings) -> list[str]:
    """What keeps the endpoint from being served."""
    if not settings.metrics.listen or importlib.util.find_spec("prometheus_client") is not None:
        return []
    origin = settings.origins.get(("metrics", "listen"), f"conf/{settings.name}.ini")
    return [
        f"{origin} [metrics] listen: needs prometheus_client, which is not installed; "
        "pip install 'camelot-daemons[metrics]'"
    ]


class _Collector:
    """What `prometheus_client` asks for the figures."""

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
        yield gauge("start_time_seconds", "When it was started, in seconds since 1970.", found.started)
        yield gauge("silent_seconds", "Since the last turn of the process that is slowest to turn.", found.silent or 0)
        yield gauge("processes", "Processes that live, the supervising one included.", len(found.processes))
        yield counter("worker_restarts", "Workers replaced because they had died.", found.worker_restarts)
        yield counter("dropped_log_lines", "Lines that nobody took in time.", found.dropped_lines)
        yield gauge("held_bytes", "Of unfinished messages and unsent replies.", found.held)
        yield counter("held_waits", "Times that a connection waited for room in [limits] held.", found.waits)
        yield counter(
            "dropped_datagrams", "Datagrams dropped by the kernel: a full receive buffer.", found.datagrams_dropped
        )
        yield counter("rate_pauses", "Pauses of a listener for [limits] max_rate.", found.rate_pauses)
        yield counter("stalls", "Times that something held the daemon up for more than a second.", found.stalls)
        yield gauge("stalled_seconds", "For how long something has held it up now.", found.stalled or 0)
        yield counter("accepted", "Connections accepted.", found.accepted)
        yield gauge("active", "Conversations under way.", found.active)
        yield counters("refused", "Connections refused, by reason.", "reason", found.refused.items())
        yield counter("lost", "Conversations that ended with their process.", found.lost)
        yield counter("messages", "Messages answered.", found.messages)
        yield counter("received_bytes", "Received in conversations.", found.received)
        yield counter("sent_bytes", "Sent in conversations.", found.sent)
        yield counters("conversations", "Conversations that ended, by how.", "ending", found.endings.items())
        duration = HistogramMetricFamily(
            "daemons_conversation_seconds", "How long the conversations took that ended.", labels=["daemon"]
        )
        buckets = [("+Inf" if bound == float("inf") else repr(bound), number) for bound, number in found.durations]
        duration.add_metric([found.name], buckets, found.seconds)
        yield duration


def _response(status: str, body: bytes = b"", kind: str = "text/plain; charset=utf-8", more: str = "") -> bytes:
    """A whole HTTP response, after which the connection closes."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close"
    return f"{head}\r\n\r\n".encode("ascii") + body
