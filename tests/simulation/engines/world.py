"""One simulated run of a daemon: a seed, an engine, about a thousand events, and the properties that must hold."""

from __future__ import annotations

import errno
import logging
import math
import random
import select
import signal
import socket
import time
from typing import Any

from daemons.serving.daemon import Daemon
from daemons.serving.drain import QUEUE_SHARE
from daemons.serving.engines import Loop
from daemons.serving.guards import budget
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.simulation.engines import patches
from tests.simulation.engines.answers import KINDS, Simulated
from tests.simulation.engines.client import Client, script, usual_lines
from tests.simulation.engines.epoll import Epoll, Poll
from tests.simulation.engines.kernel import Kernel
from tests.simulation.engines.listener import Listener
from tests.simulation.engines.properties import Accounts, Properties
from tests.simulation.engines.stream import connect

#: Maximum number of waits per event; more are a busy loop.
WAITS = 5

#: Numbers of events before a wait returns.
ARRIVALS = (0, 1, 1, 2, 4, 12)


class World(Properties):
    """The clients, the network, the clock and the server of one seed."""

    engine: type[StreamServer] = type("SimulatedLoop", (Loop, StreamServer), {})

    def __init__(self, seed: int, events: int = 1000) -> None:
        self.rng = rng = random.Random(seed)
        self.kernel = Kernel(rng)
        self.kernel.interval = rng.choice((0, 5, 20))
        self.kernel.interrupt = self.interrupt
        self.events = events
        self.busy = False
        self.waits = 0
        self._most_waits = WAITS * events
        self.clients: list[Client] = []
        self.open: list[Client] = []
        self.faults: list[str] = []
        self.accounts = Accounts(self)
        self._most = rng.randrange(1, 12)
        self._kind: type[Simulated] = self.choose_kind()
        #: The fraction of long messages.
        self._long = rng.choice((0.02, 0.1, 0.5))
        self._usual = usual_lines(rng, self._long)
        self._window = rng.choice((40, 300, 5000))
        self._capacity = rng.choice((30, 200, 5000))
        #: Number of remaining events at which the drain begins.
        self._drain_at = rng.choice((0, 0, rng.randrange(events)))
        #: When the first SIGTERM was sent, and the number of those sent.
        self.stopped = math.inf
        self.stops = 0
        self.hasty = rng.random() < 0.5
        #: Whether the daemon has cut all connections.
        self.cut = False
        #: Seconds of the longest call of the service.
        self.blocked = 0.0
        self.constants: dict[str, dict[str, Any]] = patches.CONSTANTS | {
            "daemons.serving.poller": {"MAX_EVENTS": rng.choice((1, 3, 256))},
            "daemons.serving.guards.admission": {"ACCEPT_BATCH": rng.choice((1, 3, 64))},
        }

    def choose_kind(self) -> type[Simulated]:
        """Return the class of the service."""
        return self.rng.choice(KINDS)

    # --- the run ---------------------------------------------------------------------------------------

    def fakes(self) -> list[Any]:
        """Return the fake modules."""
        kernel = self.kernel
        return [
            patches.fake(time, monotonic=kernel.monotonic, sleep=self.pause),
            patches.fake(select, epoll=lambda: Epoll(kernel, self.sleep), poll=Poll),
            patches.fake(socket, SocketType=self._socket_of, socketpair=self._socketpair),
        ]

    def run(self) -> None:
        """Run until the daemon has ended.  Raise `Violation`."""
        replacements = patches.of_modules(*self.fakes()) + patches.of_constants(self.constants)
        logging.disable()
        try:
            with patches.replaced(replacements):
                budget.PROCESS.__init__()  # type: ignore[misc]
                self.serve()
        finally:
            budget.PROCESS.__init__()  # type: ignore[misc]
            logging.disable(logging.NOTSET)

    def serve(self) -> None:
        service = self._kind()
        service.block = self.block
        handler = Pump.for_service(service)
        server = self.server = self.engine(("127.0.0.1", 0), handler, bind_and_activate=False)
        server.socket.close()
        self.listener = server.socket = Listener(self.kernel)  # type: ignore[assignment]
        server.limits = self.limits()
        server.access_log = server.metrics = self.accounts  # type: ignore[assignment]
        server.cut = self._cut  # type: ignore[method-assign]
        server.stop_listening = self._stop_listening  # type: ignore[method-assign]
        self.prepare()
        self.daemon = Daemon([server])
        try:
            self.daemon.serve_forever()
        finally:
            if server.active and not (self.cut and self.blocked):
                self.fail(f"{server.active} connections are open at the end")
            server.server_close()
        self.check()

    def _stop_listening(self) -> None:
        server, kernel = self.server, self.kernel
        in_time = self.stops < 2 and kernel.now < self.stopped + server.limits.drain_timeout * QUEUE_SHARE
        full = server.active >= server.max_connections
        if self.listener.queue and in_time and not full and not server.wait() and not kernel.interval:
            self.fail("a drain closed the listener before its queue was empty")
        StreamServer.stop_listening(server)

    def _cut(self) -> None:
        self.cut = True
        StreamServer.cut(self.server)

    def prepare(self) -> None:
        """Change the server before it runs."""

    def limits(self) -> Limits:
        rng = self.rng
        choices = (1.0, 5.0, 20.0) if self.hasty else (1e6,)
        return Limits(
            max_connections=rng.choice((None, None, 1, 3)),
            max_per_peer=rng.choice((None, None, None, 4)),
            held=rng.choice((10**6, 10**6, 3000, 1200)),
            idle_timeout=rng.choice(choices),
            message_timeout=rng.choice(choices),
            write_timeout=rng.choice(choices),
            handshake_timeout=rng.choice(choices),
            drain_timeout=rng.choice((0.5, 8.0)),
        )

    def _socket_of(self, family: int, kind: int, protocol: int, descriptor: int) -> Any:
        return self.kernel.files[descriptor]

    def _socketpair(self) -> Any:
        pair = connect(self.kernel, 100, 100)
        for each in pair:
            each.descriptor = self.kernel.open(each)
        return pair

    def fail(self, fault: str) -> None:
        """Record a violation, and end the daemon."""
        if not self.faults:
            self.faults.append(f"{self.events} events before the end: {fault}")
        self.daemon.state = 3
        self.events = 0

    # --- events ----------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Let clients act between two system calls of the server."""
        if not self.busy and self.events:
            self.act()

    def act(self) -> bool:
        """Run one event.  Return False if all clients wait."""
        rng = self.rng
        self.busy = True
        self.events -= 1
        try:
            if self.events <= self._drain_at and rng.random() < 0.02:
                self.stop()
                return True
            draw = rng.random()
            if draw < 0.03:
                self.kernel.now += rng.choice((0.001, 0.01, 0.05))
                return True
            if draw < 0.04 and not self.listener.failures:
                self.listener.failures.append(rng.choice((errno.EMFILE, errno.ECONNABORTED)))
            if len(self.open) < self._most and draw < 0.15 and not self.listener.closed:
                self._connect()
                return True
            return bool(self.open) and self._act_of(self.open[int(rng.random() * len(self.open))])
        finally:
            self.busy = False

    def _act_of(self, client: Client) -> bool:
        acted = client.act()
        if client.done:
            self.open.remove(client)
        return acted

    def _connect(self) -> None:
        rng = self.rng
        end, server_end = connect(self.kernel, self._window, self._capacity)
        client = Client(rng, end, script(rng, self._kind, self._usual, self._long))
        server_end.address = (rng.choice(("127.0.0.1", "192.0.2.7")), len(self.clients))
        self.clients.append(client)
        self.open.append(client)
        self.listener.arrive(server_end)

    def stop(self) -> None:
        """Send a SIGTERM; the drain begins with the first one."""
        self.stops += 1
        self.stopped = min(self.stopped, self.kernel.now)
        self.daemon.handle_signal(signal.SIGTERM)

    def block(self) -> None:
        """Let a call of the service take long."""
        began = self.kernel.now
        for _ in range(self.rng.randrange(5)):
            if self.events > 0:
                self.act()
        self.kernel.now += self.rng.choice((0.001, 0.1, 0.3))
        self.blocked = max(self.blocked, self.kernel.now - began)

    def pause(self, seconds: float) -> None:
        """Replace time.sleep, which the loop calls only after a failed turn."""
        import sys

        self.fail(f"a turn of the loop failed: {sys.exception()!r}")

    # --- the wait --------------------------------------------------------------------------------------

    def sleep(self, epoll: Epoll, timeout: float | None, most: int) -> list[tuple[int, int]]:
        """Wait for events: clients act, and if all of them wait, time passes."""
        kernel, rng = self.kernel, self.rng
        self.count_wait()
        until = math.inf if timeout is None else kernel.now + timeout
        for _ in range(ARRIVALS[int(rng.random() * len(ARRIVALS))]):
            if self.events > 0:
                self.act()
        if (events := epoll.collect(most)) or self.faults or kernel.now >= until:
            return events
        self.check_asleep()
        while kernel.now < until:
            self.pass_time(until)
            if (events := epoll.collect(most)) or self.faults:
                return events
        return epoll.collect(most)

    def count_wait(self) -> None:
        """Fail if the loop waits so often that it must be a busy loop."""
        self.waits += 1
        if self.waits > self._most_waits:
            self.fail("busy loop")

    def pass_time(self, until: float) -> None:
        """Run one event; if there is none, let time pass until the next timer, which is due at `until`."""
        acted = self.act() if self.events > 0 else self.finish()
        if acted or (self.events > 0 and self.rng.random() < 0.7):
            return
        if until < math.inf:
            self.kernel.now = max(self.kernel.now, until + 1e-6)
        elif self.events <= 0 and self.stopped == math.inf:
            self.stop()
        elif self.events <= 0:
            self.fail("asleep without a timer")

    def finish(self) -> bool:
        """After the last event, bring all connections to a regular end, then stop the daemon."""
        for client in list(self.open):
            if client.finish():
                if client.done:
                    self.open.remove(client)
                return True
        if self.stopped == math.inf and not self.open:
            self.stop()
            return True
        return False
