"""Faults put into the engines, to prove that the simulation finds them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from daemons.serving.daemon import Daemon
from daemons.serving.drain import Drain
from daemons.serving.engines import pool
from daemons.serving.engines.loop import Loop
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.engines.loop_poller import LoopPoller
from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.engines.stall_detector import StallDetector
from daemons.serving.guards.admission import Admission
from daemons.serving.server import Server


@dataclass(frozen=True)
class Mutation:
    """The replacement of a text in the source of one method or function, at every place where it occurs.

    `owner` is a class or a module."""

    name: str
    owner: Any
    method: str
    old: str
    new: str
    #: A seed that finds it, for speed; any may be needed after a change of the simulation.
    seed: int = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Change the method within a ``with`` statement.  Raise `LookupError` if its source has no such text."""
        bases = getattr(self.owner, "__mro__", (self.owner,))
        owner = next((each for each in bases if self.method in each.__dict__), None)
        if owner is None:
            raise LookupError(f"{self.owner.__name__} has no {self.method}")
        original = owner.__dict__[self.method]
        source = textwrap.dedent(inspect.getsource(original))
        if self.old not in source:
            raise LookupError(f"{self.owner.__name__}.{self.method} does not contain {self.old!r}")
        source = source.replace(self.old, self.new).replace("super()", f"super({owner.__name__}, self)")
        namespace: dict[str, Any] = {}
        exec(compile(source, inspect.getsourcefile(original) or "", "exec"), original.__globals__, namespace)
        setattr(owner, self.method, namespace[self.method])
        try:
            yield
        finally:
            setattr(owner, self.method, original)


LOOP = (
    Mutation("no rearm after a full read", LoopPoller, "wait", "if length == size:", "if False:"),
    Mutation("no rearm after an urgent byte", LoopPoller, "wait", "if event != EPOLLIN and data:", "if False:"),
    Mutation("rest of a reply is dropped", LoopPoller, "wait", "if sent != length:", "if False:", 8),
    Mutation("no deadline after a reply", LoopPoller, "wait", "connection.deadline = deadline", "pass", 22),
    Mutation("ended connections are not closed", LoopPoller, "wait", "if self._ended:", "if False:"),
    Mutation("drain in spite of more events", LoopPoller, "wait", "and len(events) < MAX_EVENTS", "", 79),
    Mutation(
        "recv fails, and it ends twice",
        LoopPoller,
        "_discard",
        "self._close_connection(connection)",
        "self._end(connection, None)",
    ),
    Mutation(
        "no interest in input after a reply",
        LoopPoller,
        "_write",
        "self._epoll.modify(connection.descriptor, self._interest(connection))",
        "pass",
    ),
    Mutation("rest of a reply is sent again", LoopPoller, "_write", "unsent[sent:])", "unsent)", 8),
    Mutation("bytes sent are not counted", LoopPoller, "_write", "connection.sent += sent", "pass"),
    Mutation(
        "no interest in space",
        LoopPoller,
        "_queue_unsent",
        "self._epoll.modify(connection.descriptor, select.EPOLLOUT)",
        "pass",
    ),
    Mutation(
        "no rearm after a pause",
        LoopPoller,
        "_resume",
        "self._epoll.modify(connection.descriptor, self._interest(connection))",
        "pass",
        37,
    ),
    Mutation("never resumed", LoopPoller, "_events", "self._resume()", "pass", 37),
    Mutation(
        "pause without an action", LoopPoller, "_charge_unfinished", "self._actions[connection.descriptor] =", "_ =", 37
    ),
    Mutation("drain in spite of input", LoopPoller, "_close_idle", "descriptor not in ready and ", "", 49),
    Mutation("drain without a grace period", LoopPoller, "_close_idle", "and connection.close_after <= now", "", 17),
    Mutation("no drain of idle connections", LoopPoller, "_close_idle", "connection.idle and", "False and", 23),
    Mutation("no linger", LoopPoller, "_end", "if connection.ending in LINGERING:", "if False:"),
    Mutation("charge is kept", LoopPoller, "_end", "connection.server.hold(connection, 0)", "pass"),
    Mutation("paused connection is kept", LoopPoller, "_end", "self._paused.pop(connection, None)", "pass", 37),
    Mutation("lingering is read edge-triggered", LoopPoller, "_linger", "EPOLLIN)", "EPOLLIN | select.EPOLLET)"),
    Mutation("lingering without a deadline", LoopPoller, "_linger", "LINGER)", "1e6)", 7),
    Mutation(
        "close leaves the action",
        LoopPoller,
        "_close_connection",
        "self._actions.pop(connection.descriptor, None)",
        "pass",
    ),
    Mutation(
        "close leaves the connection",
        LoopPoller,
        "_close_connection",
        "self.reading_connections.pop(",
        "self.reading_connections.get(",
    ),
    Mutation("pieces are not continued", LoopPoller, "_after_reply", "conversation.state == PENDING", "False"),
    Mutation("end of a talk is missed", LoopPoller, "_after_reply", "conversation.state == OVER", "False"),
    Mutation(
        "cache is used in a message", LoopConnection, "refresh_cache_view", "conversation.state == IDLE", "True", 22
    ),
    Mutation(
        "closed twice",
        Loop,
        "log_and_close",
        "connection.socket.close()",
        "connection.socket.close(); connection.socket.close()",
    ),
    Mutation(
        "logged twice",
        Loop,
        "log_and_close",
        "self.access_log.log_all(ended, now)",
        "self.access_log.log_all([*ended] * 2, now)",
    ),
    Mutation("not closed", Loop, "log_and_close", "connection.socket.close()", "pass"),
    Mutation("accepted but not registered", Loop, "accept_many", "register(descriptor, reading)", "pass"),
    Mutation("deadlines are not enforced", Server, "sweep", "connection.cut(connection.timeout_ending)", "pass", 7),
    Mutation("connections are not cut", Daemon, "_finished", "server.cut()", "pass", 8),
    Mutation("drain without an end", Drain, "must_cut", "now < self._until:", "now < self._until + 30:", 8),
    Mutation("listener is not polled again", Admission, "stop_polling", "polled.discard(server)", "pass"),
    Mutation("listener is polled when full", Admission, "update_polling", "if not full and not rest:", "if not rest:"),
    Mutation("queue is not taken", Admission, "take_queues", "accepted = server.accept()", "accepted = False", 7),
)

POOL = (
    Mutation("pause without a change of interest", PoolPoller, "_charge_unfinished", "_interest_unread", "_interest"),
    Mutation("a result does not wake the leader", PoolPoller, "return_to_leader", "self.wake()", "pass"),
    Mutation(
        "a result is lost", PoolPoller, "return_to_leader", "self.ready.append((connection, reply, answered))", "pass"
    ),
    Mutation(
        "results are returned too late",
        PoolPoller,
        "wait",
        "while self.ready:",
        "while self.offloading and self.ready:",
    ),
    Mutation("unread connections are forgotten", PoolPoller, "wait", "while self.unread", "while False", 13),
    Mutation(
        "leader does not notice its loss",
        PoolPoller,
        "_process_reply",
        "raise LeadershipLost from None",
        "return None",
        20,
    ),
    Mutation("reply of a lost leader is lost", PoolPoller, "_process_reply", "self.return_to_leader(", "str, ("),
    Mutation("connection in service is still polled", StallDetector, "take_over", "poller.suspend(connection)", "pass"),
    Mutation("no thread leads after a stall", StallDetector, "take_over", "poller.offloading = True", "pass"),
    Mutation("lead is taken twice", StallDetector, "take_over", "poller.lease = None", "pass"),
    Mutation("stall detector sleeps", StallDetector, "_sleep", "poller.detector_sleeps = True", "pass"),
    Mutation("stall detector is not woken", PoolPoller, "_events", "self.detector_wakeup.set()", "pass"),
    Mutation(
        "lead is taken from another message",
        PoolPoller,
        "_process_reply",
        "self.in_service.pop(connection)",
        "self.in_service.popitem()",
        159,
    ),
    Mutation("former leader does not wait", PoolPoller, "_process_reply", "with self.handover:", "if True:", 68),
    Mutation(
        "stall detector sleeps in a turn",
        StallDetector,
        "_sleep",
        "if poller.waiting:",
        "if not poller.in_service:",
        352,
    ),
    Mutation("old leader leads on", pool, "_lead_inline", "and poller.lease is lease", ""),
    Mutation("no deadline after a worker", PoolPoller, "_return", "connection.deadline = ", "_ = "),
    Mutation("not polled after a worker", PoolPoller, "_return", "self.start_reading(connection)", "pass"),
    Mutation(
        "polled while a worker serves it",
        PoolPoller,
        "suspend",
        "self._epoll.unregister(connection.descriptor)",
        "pass",
    ),
    Mutation(
        "found while a worker serves it",
        PoolPoller,
        "suspend",
        "self.reading_connections.pop(",
        "self.reading_connections.get(",
    ),
    Mutation("deadline while a worker serves it", PoolPoller, "suspend", "connection.deadline = math.inf", "pass"),
    Mutation(
        "reply of a worker is not charged", PoolPoller, "return_to_leader", "connection.charged = len(reply)", "pass"
    ),
)
