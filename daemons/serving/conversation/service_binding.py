"""State shared by all conversations of a service: its properties, its framing and its cache.

No sockets, no clocks, no threads, no log.
"""

from __future__ import annotations

from collections.abc import Callable

from daemons.framings import Framing
from daemons.serving.conversation.reply_cache import ReplyCache
from daemons.serving.conversation.service import Service

#: Returned by `ServiceBinding.respond_if_known` for an input that is not in the cache `ReplyCache.single`.
UNKNOWN = object()


class Failure:
    """An exception raised by a service, in place of a reply."""

    __slots__ = ("reason",)

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class ServiceBinding:
    """The properties of a service and its framing that are looked up for each message, and the service's cache."""

    __slots__ = ("_single", "cache", "encode", "framing", "plain", "respond", "service", "talks")

    def __init__(self, service: Service) -> None:
        self.service = service
        #: `Service.respond`, for messages outside a talk.
        self.respond = service.respond
        self.framing = service.framing
        #: `Framing.encode`; None: replies are sent unchanged.
        self.encode = _encode_of(service.framing)
        #: Whether the service has a talk of its own, in which a reply may depend on earlier messages.
        self.talks = service.talks
        #: Whether each message is passed to `respond`, and its reply is sent unchanged.
        self.plain = not self.talks and self.encode is None
        self.cache = ReplyCache(pure=service.pure and not self.talks, plain=self.plain)
        self._single = self.cache.single

    def with_framing(self, framing: Framing) -> ServiceBinding:
        """Return a binding of the same service with another framing, for a talk.  Its cache is the same, and unused."""
        binding = ServiceBinding.__new__(ServiceBinding)
        binding.service, binding.respond, binding.talks, binding.plain = self.service, self.respond, self.talks, False
        binding.cache, binding._single = self.cache, self._single
        binding.framing, binding.encode = framing, _encode_of(framing)
        return binding

    def respond_if_known(self, data: bytes) -> object:
        """If `data` is in the cache of inputs that are exactly one message, call the service; else return UNKNOWN.

        The conversation must be idle.  The caller passes a result that is neither bytes nor UNKNOWN to
        `Conversation.encode_result`.  If not `plain`, the result is always UNKNOWN.  Raises nothing: an exception of
        the service is returned as a `Failure`.
        """
        if (message := self._single.get(data)) is None:
            return UNKNOWN
        try:
            return self.respond(message)
        except BaseException as failure:
            return Failure(failure)


def _encode_of(framing: Framing) -> Callable[[bytes], bytes] | None:
    return None if type(framing).encode is Framing.encode else framing.encode
