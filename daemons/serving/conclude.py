"""Deadlines and endings of conversations: rules shared by all engines.  No sockets, no threads, no logging.

Engines transfer bytes and wait.  Only this module decides the deadline for each state of a conversation, and the
ending, the reason and the number of messages in its access line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemons.serving.conversation.endings import BY_FRAMING, Ending
from daemons.serving.conversation.service import PeerLeft
from daemons.serving.conversation.states import IDLE, PARTIAL, PENDING, SHAKING, WAITING

if TYPE_CHECKING:
    from daemons.serving.connection import Connection
    from daemons.serving.conversation.conversation import Conversation
    from daemons.serving.guards.limits import Limits

#: Aliases, since access to an attribute of an enumeration class is slow before Python 3.12.
BETWEEN_MESSAGES, SLOW, HANDSHAKE, STUCK = Ending.IDLE, Ending.SLOW, Ending.HANDSHAKE, Ending.STUCK
STOPPED = Ending.STOPPED

#: Deadline of a connection with a talk that waits, which has a timeout of its own.  Not infinite: see
#: `LoopConnection.suspended`.
NEVER = 1e18

#: Seconds to wait for the peer to close after the last reply.  Closing while the peer still sends would reset the
#: connection, and the peer could lose that reply (RFC 9112, section 9.6).
LINGER = 2.0

#: Minimum seconds that a connection keeps when its timeout is reduced: a thread may be about to set a new deadline.
RESCHEDULED = 1.0

#: Setting of each phase.
_TIMEOUTS = {
    HANDSHAKE: "handshake_timeout",
    BETWEEN_MESSAGES: "idle_timeout",
    SLOW: "message_timeout",
    STUCK: "write_timeout",
    Ending.OVERLONG: "conversation_timeout",
}


def expect_next(connection: Connection, state: int, limits: Limits, *, answered: bool) -> None:
    """Set the deadline for the peer's next step, according to the `state` of the conversation.

    A deadline belongs to a phase, not to a read: it is set again only if the phase changes, or if a message was
    `answered` since the last call.  Each batch of a reply in pieces gets a new `write_timeout`.  While a talk waits,
    there is no deadline, since the peer has nothing to do.  If the conversation is over, the deadline stays as it is.
    """
    if state == IDLE:
        if answered or connection.timeout_ending is not BETWEEN_MESSAGES:
            connection.expect(BETWEEN_MESSAGES, limits.idle_timeout)
    elif state == PARTIAL:
        if answered or connection.timeout_ending is not SLOW:
            connection.expect(SLOW, limits.message_timeout)
    elif state == PENDING:
        connection.expect(STUCK, limits.write_timeout)
    elif state == WAITING:
        connection.timeout_ending, connection.deadline = STOPPED, NEVER
    elif state == SHAKING and connection.timeout_ending is not HANDSHAKE:
        connection.expect_handshake(limits.handshake_timeout)


def reschedule(connection: Connection, old: Limits, new: Limits, now: float) -> None:
    """Change the deadline of an open connection after a reload, as if its phase had begun under the `new` limits."""
    setting = _TIMEOUTS.get(connection.timeout_ending)
    if setting is None or connection.ending is not None:
        return
    if change := getattr(new, setting) - getattr(old, setting):
        deadline = connection.deadline
        connection.deadline = max(deadline + change, min(deadline, now + RESCHEDULED))


def conclude(
    connection: Connection, conversation: Conversation, ending: Ending | None = None, *, counted: int = 0
) -> BaseException | None:
    """Close a conversation and set the ending, the reason and the number of messages of its connection.

    The ending is the first of these that applies:

    1. FAILED, if the service raised an exception, even in the `finally` of a talk: the traceback in the log then has a
       matching access line.  A reply cut short because the peer reset the connection is not a failure.
    2. The ending that a guard or a deadline has set in `connection`.
    3. `ending`, which the engine saw on the socket.
    4. The conversation's own ending.
    5. DONE.

    `counted` messages of the conversation are in `connection.messages` already, and are not added again.

    Return the exception of the service, for the log.
    """
    conversation.close()
    connection.messages = (connection.messages or 0) + conversation.messages - counted
    connection.ending = connection.ending or ending or conversation.ending or Ending.DONE
    if isinstance(conversation.failure, PeerLeft):
        if connection.ending is Ending.FAILED:  # from the conversation
            connection.ending = Ending.RESET
        return None
    if conversation.failure is not None:
        connection.ending = Ending.FAILED
    elif connection.ending in BY_FRAMING:
        connection.explain(conversation.reason)
    return conversation.failure
