"""What the conversations of one service share, so that what has come before need not be thought about again.

No sockets, no clocks, no threads, no log.
"""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings import Framing
from daemons.framings.cache import BoundedCache
from daemons.serving.conversation.service import Service

#: Octets per recv(2) where messages are short, as most are: with the 33 octets around it, a bytes object of this size
#: is the largest that Python's own allocator has (512, Objects/obmalloc.c).  malloc takes three times as long.
SHORT = 512 - 33 - 1

#: What a pure service said is remembered for inputs shorter than `SHORT` (a pipeline of short questions fits), so that
#: who has got one from recv(2) knows that it was all there is; with replies of up to so many octets, for this many
#: inputs: `daemons.framings.cache.ROOM` bytes at the very most.
REMEMBERED_REPLY = 4096
REMEMBERED_COUNT = 1024

#: How an input was framed is remembered for inputs of up to so many octets.
REMEMBERED_INPUT = 1024

#: How an input was framed is remembered where it came to this many messages at most, which are together no longer
#: than an input may be.  Each is an object, and a framing that unpacks may make a megabyte of a kilobyte.
REMEMBERED_MESSAGES = 64


#: Bytes of an entry beside its input, messages and reply; roughly.
ENTRY = 300


#: What is known of an input: its octets, how many messages it is, what is replied, and the octets of that.
Known = tuple[int, int, bytes, int]

#: What `Memory.again` says where it knows nothing.
UNKNOWN = object()


class Failure:
    """What came of a message in the place of a reply."""

    __slots__ = ("reason",)

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class Memory:
    """What all conversations of one service share: how bytes are framed, and what a pure service replied.

    Both depend on the bytes alone, as long as nothing is held from before.
    """

    __slots__ = (
        "_alone",
        "_framed",
        "_pure",
        "_replies",
        "alone",
        "encode",
        "framed",
        "plain",
        "replies",
        "respond",
        "service",
        "talks",
    )

    def __init__(self, service: Service) -> None:
        self.service = service
        #: How a message is answered where no talk is under way.
        self.respond = service.respond
        #: How a reply is framed; None: it is sent as it is.
        encode = service.framing.encode
        self.encode = None if type(service.framing).encode is Framing.encode else encode
        # In a talk, what is said depends on what came before.
        self.talks = service.talks
        self._pure = service.pure and not self.talks
        #: Whether each message is answered by itself, and replies are sent as they are.
        self.plain = not self.talks and self.encode is None
        #: From input to the one message in it, where `respond` is asked and its reply is sent as it is.
        self._alone: BoundedCache[bytes, bytes] = BoundedCache(REMEMBERED_COUNT)
        self.alone = self._alone.table
        #: From other input to the messages in it.
        self._framed: BoundedCache[bytes, Sequence[bytes]] = BoundedCache(REMEMBERED_COUNT)
        self.framed = self._framed.table
        #: From input to what a pure service replies to it.
        self._replies: BoundedCache[bytes, Known] = BoundedCache(REMEMBERED_COUNT)
        self.replies = self._replies.table

    def again(self, data: bytes) -> object:
        """What the service replies now to an input that was one message before, and came when nothing was held, as it
        has this time.  Bytes are to be sent; anything else is for `Conversation.say`, but `UNKNOWN`: that is for
        `Conversation.receive`, and is all that is ever said where it is not `plain`.  Raises nothing."""
        if (message := self.alone.get(data)) is None:
            return UNKNOWN
        try:
            return self.respond(message)
        except BaseException as failure:
            return Failure(failure)

    def keep(self, data: bytes, messages: Sequence[bytes], reply: bytes) -> None:
        """Remember what `data` was: it came when nothing was held, and nothing of it is held now."""
        if len(data) > REMEMBERED_INPUT:
            return
        if self._pure and len(data) < SHORT and len(reply) <= REMEMBERED_REPLY:
            self._replies.keep(data, (len(data), len(messages), reply, len(reply)), ENTRY + len(data) + len(reply))
        elif len(messages) > REMEMBERED_MESSAGES or sum(map(len, messages)) > REMEMBERED_INPUT:
            return
        elif self.plain and len(messages) == 1:
            self._alone.keep(data, messages[0], ENTRY + len(data) + messages[0].__sizeof__())
        else:
            self._framed.keep(data, tuple(messages), ENTRY + len(data) + sum(each.__sizeof__() for each in messages))
