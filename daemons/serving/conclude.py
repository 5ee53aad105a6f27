"""Deadlines and endings of conversations: rules shared by all engines.  No sockets, no threads, no logging.

Engines transfer bytes and wait.  The deadline for each state of a conversation, and the ending, the reason and the
figures of its access line are decided only here.
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

#: Access to an attribute of an enumeration class is slow before Python 3.12.
BETWEEN_MESSAGES, SLOW, HANDSHAKE, STUCK = Ending.IDLE, Ending.SLOW, Ending.HANDSHAKE, Ending.STUCK


def expect_next(connection: Connection, state: int, limits: Limits, *, answered: bool) -> None:
    """Set the deadline for the peer's next step, according to the `state` of the conversation.

    A deadline belongs to a phase, not to a read: it is set again only if the phase changes, or if a message was
    `answered` since the last call.  A reply in parts has `write_timeout` for each part.  If the conversation is over,
    nothing is set.
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
    """Close a conversation and set the ending, the reason and the number of messages of its connection.

    The ending is, in this order: FAILED if the service raised an exception, even in the `finally` of a talk, so that
    its traceback in the log has a matching access line; the ending that `connection` has already, from a guard or a
    deadline; `ending`, which the engine saw on the socket; the conversation's own; DONE.  A reply cut short because
    the peer reset the connection is not a failure.

    `counted` is the number of the conversation's messages that the connection includes already.

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
