"""Base class of conversations that wrap another one, as a layer between it and the socket, with the same contract."""

from __future__ import annotations

from collections.abc import Callable

from daemons.serving.conversation.conversation import NOTHING, Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import SHAKING


class ConversationWrapper(Conversation):
    """Wrapper of `inner`, which is opened when this layer is complete; until then the state is SHAKING."""

    __slots__ = ("_inner",)

    # The base constructor is not called: it sets attributes for a service, which only `inner` has.
    def __init__(self, inner: Conversation) -> None:
        self._inner = inner
        self.state = SHAKING
        self.ending = None
        self.failure = None
        self.messages = 0
        # No cache: the received bytes are not the input of the service, since this layer processes them first.
        self.replies = NOTHING
        self.respond_if_known = None

    def open(self) -> bytes:
        """Return nothing: the greeting of `inner` follows once this layer is complete."""
        return b""

    def deliver(self) -> bytes:
        raise NotImplementedError

    def resume(self) -> bytes:
        raise NotImplementedError

    @property
    def pushed(self) -> bool:
        return self._inner.pushed

    @property
    def overflowed(self) -> bool:
        return self._inner.overflowed

    @property
    def ready(self) -> bool:
        return self._inner.ready

    def call_when_ready(self, action: Callable[[], object]) -> None:
        self._inner.call_when_ready(action)

    def identify(self, certificate: str) -> None:
        self._inner.identify(certificate)

    @property
    def timeout(self) -> float | None:
        return self._inner.timeout

    @property
    def buffered(self) -> int:
        return self._inner.buffered

    @property
    def file_slice(self) -> None:
        """Always None: the bytes of a file pass through this layer, so the conversation reads them."""

    @property
    def reason(self) -> str:
        return self._inner.reason

    @property
    def closable(self) -> bool:
        return self._inner.closable

    def close(self) -> None:
        self._inner.close()
        if self._inner.failure is not None:
            self.failure = self._inner.failure
            self.ending = Ending.FAILED
