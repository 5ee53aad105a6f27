"""Faults put into pushes and waits, to prove that the simulation finds them."""

from __future__ import annotations

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.peer import Peer
from daemons.serving.engines.loop_poller import LoopPoller
from daemons.serving.engines.pool_poller import PoolPoller
from tests.simulation.engines.mutations import Mutation

LOOP = (
    Mutation(
        "drain in spite of input after a wait",
        LoopPoller,
        "_close_idle",
        "if descriptor in self._resumed:",
        "if False:",
        51,
    ),
    Mutation("wait goes on after the end", LoopPoller, "_end", "self._stop_waiting(connection)", "pass", 2),
    Mutation(
        "peer that waits counts as idle",
        LoopPoller,
        "_wait_for_value",
        "connection, WAITING, ",
        "connection, IDLE, ",
        7,
    ),
    Mutation("overflow is not noticed", LoopPoller, "_deliver_pushed", "if conversation.overflowed:", "if False:", 40),
    Mutation(
        "push inside a partial push",
        LoopPoller,
        "_may_send",
        "return connection.timeout_ending is not STUCK",
        "return True",
        8,
    ),
    Mutation(
        "a wait has no timeout",
        LoopPoller,
        "_wait_for_value",
        "(timeout := conversation.timeout) is not None",
        "False",
        6,
    ),
    Mutation("no check after a reply", LoopPoller, "_after_reply", "if conversation.pushed:", "if False:", 8),
    Mutation("a push does not wake the leader", LoopPoller, "push", "self.wake()", "pass"),
    Mutation(
        "no check when a wait begins",
        LoopPoller,
        "_wait_for_value",
        "if conversation.ready or conversation.pushed:",
        "if False:",
    ),
    Mutation("timer is not canceled", LoopPoller, "_stop_waiting", "timer.cancel()", "pass"),
    Mutation(
        "push inside a partial write",
        LoopPoller,
        "_may_send",
        "return self.reading_connections.get(connection.descriptor) is connection",
        "return True",
    ),
    Mutation(
        "resumed twice",
        LoopPoller,
        "_continue_talk",
        "self._resume_talk(connection)",
        "self._resume_talk(connection); self._resume_talk(connection)",
    ),
    Mutation("resumed before its value", LoopPoller, "_deliver_pushed", "and conversation.ready", ""),
    Mutation(
        "input is read during a wait",
        LoopPoller,
        "_wait_for_value",
        "self._epoll.modify(connection.descriptor, self._interest_unread(connection))",
        "pass",
    ),
    Mutation("peer never leaves", Conversation, "close", "self._peer.leave()", "pass"),
    Mutation("push after the last reply", Conversation, "_after_pushes", "peer.take() + reply", "reply + peer.take()"),
    Mutation("pushes in reverse", Peer, "take", 'b"".join(pushes)', 'b"".join(reversed(pushes))'),
    Mutation("values in reverse", Peer, "take_value", "popleft()", "pop()"),
)

POOL = (
    Mutation("wait goes on while a worker closes", PoolPoller, "_end", "self._stop_waiting(connection)", "pass", 128),
    Mutation(
        "push to a peer that a worker serves", PoolPoller, "_deliver_pushed", "if connection.suspended:", "if False:", 3
    ),
    Mutation(
        "wait holds up the memory budget",
        PoolPoller,
        "_wait_for_value",
        "if connection.charged or conversation.buffered:",
        "if False:",
        81,
    ),
    Mutation(
        "first push is seen outside the lock",
        PoolPoller,
        "push",
        "with self._push_lock:\n        first = not self._pushed",
        "first = not self._pushed\n    with self._push_lock:\n        pass",
    ),
)
