"""How a conversation goes on and how it ends: the rules that all engines share.  No sockets, no threads, no log.

An engine carries bytes and waits.  Which deadline follows from the state of a conversation, and which ending, reason
and figures stand on its access line, is decided here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemons.serving.conversation.conversation import IDLE, PARTIAL, PENDING, SHAKING
from daemons.serving.conversation.endings import BY_FRAMING, Ending
from daemons.serving.conversation.service import PeerLeft

if TYPE_CHECKING:
    from daemons.serving.connection import Connection
    from daemons.serving.conversation.conversation import Conversation
    from daemons.serving.guards.limits import Limits

#: Attributes of an enumeration's class are slow to get, until Python 3.12.
BETWEEN_MESSAGES, SLOW, HANDSHAKE, STUCK = Ending.IDLE, Ending.SLOW, Ending.HANDSHAKE, Ending.STUCK


def expect_next(connection: Connection, state: int, limits: Limits, *, answered: bool) -> None:
    """Set the deadline for the peer's next step, as the `state` of the conversation demands.

    A deadline belongs to a phase, not to a read: it is set anew when the phase changes, or when a message was
    `answered` since the last call, so that the one under way is another.  A reply in parts has `write_timeout` for each
    part.  A conversation that is over has no next step.
    """
    if state == IDLE:
        if answered or connection.overdue is not BETWEEN_MESSAGES:
            connection.expect(BETWEEN_MESSAGES, limits.idle_timeout)
    elif state == PARTIAL:
        if answered or connection.overdue is not SLOW:
            connection.expect(SLOW, limits.message_timeout)
    elif state == PENDING:
        connection.expect(STUCK, limits.write_timeout)
    elif state == SHAKING and connection.overdue is not HANDSHAKE:
        connection.expect_handshake(limits.handshake_timeout)


def conclude(
    connection: Connection, conversation: Conversation, ending: Ending | None = None, *, counted: int = 0
) -> BaseException | None:
    """Close a conversation and settle the ending, the reason and the number of messages of its connection.

    The ending is the one that `connection` has already, by a guard or a deadline; else `ending`, which the engine saw
    on the socket; else the conversation's own, DONE if it has none.  A failure of the service, also one that shows only
    in the `finally` of a talk, comes before all of these: its traceback needs an access line that names it.
    A reply that was cut short because the peer had reset the connection is no failure.  `counted` messages are in the
    connection's number already.

    Return the exception of the service, for the log.
    """
    conversation.close()
    connection.messages = (connection.messages or 0) + conversation.messages - counted
    connection.ending = connection.ending or ending or conversation.ending or Ending.DONE
    if isinstance(conversation.failure, PeerLeft):
        if connection.ending is Ending.FAILED:  # which is the conversation's own
            connection.ending = Ending.RESET
        return None
    if conversation.failure is not None:
        connection.ending = Ending.FAILED
    elif connection.ending in BY_FRAMING:
        connection.explain(conversation.reason)
    return conversation.failure
