"""A service with its framing and its cache, as all conversations of the service use it.

No sockets, no clocks, no threads, no log.
"""

from __future__ import annotations

from daemons.framings import Framing
from daemons.serving.conversation.reply_cache import ReplyCache
from daemons.serving.conversation.service import Service

#: Returned by `ServiceBinding.again` for an input that is not in the cache.
UNKNOWN = object()


class Failure:
    """An exception raised by a service, in place of a reply."""

    __slots__ = ("reason",)

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class ServiceBinding:
    """The properties of a service and its framing that are looked up for each message, and the service's cache."""

    __slots__ = ("_single", "cache", "encode", "plain", "respond", "service", "talks")

    def __init__(self, service: Service) -> None:
        self.service = service
        #: `Service.respond`, for messages outside a talk.
        self.respond = service.respond
        #: `Framing.encode`; None: replies are sent unchanged.
        encode = service.framing.encode
        self.encode = None if type(service.framing).encode is Framing.encode else encode
        #: Whether the service has a talk of its own, in which a reply may depend on earlier messages.
        self.talks = service.talks
        #: Whether each message is passed to `respond`, and its reply is sent unchanged.
        self.plain = not self.talks and self.encode is None
        self.cache = ReplyCache(pure=service.pure and not self.talks, plain=self.plain)
        self._single = self.cache.single

    def again(self, data: bytes) -> object:
        """Call the service for an input already known to be exactly one message; return UNKNOWN if it is not.

        Call it only while the conversation is idle, and pass a result that is neither bytes nor UNKNOWN to
        `Conversation.say`.  The result is always UNKNOWN if not `plain`.  Raises nothing: an exception of the service
        is returned as a `Failure`.
        """
        if (message := self._single.get(data)) is None:
            return UNKNOWN
        try:
            return self.respond(message)
        except BaseException as failure:
            return Failure(failure)
