"""A server and its request handler: the service, its conversations and its failures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from daemons.serving import signals
from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service import ReplyCutShort, Service
from daemons.serving.guarded_server import GuardedServer
from daemons.serving.inlinable import inlinable
from daemons.serving.peer_check import PeerCheck
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.interfaces import AccessLog

log = SafeLogger(__name__)


class HandlerServer(GuardedServer):
    """A server whose request handler is a pump, which carries the messages of a service, or a raw handler."""

    def __init__(
        self, server_address: Any, RequestHandlerClass: Callable[..., Any], bind_and_activate: bool = True
    ) -> None:
        #: Log of one line per connection; None: no such log.
        self.access_log: AccessLog | None = None
        super().__init__(server_address, RequestHandlerClass, bind_and_activate)

    @inlinable
    def make_conversation(self, connection: Connection) -> Conversation:
        """Return a new conversation for `connection`, including its wrappers (TLS, PROXY protocol)."""
        return self.make_bare_conversation(connection)

    def make_bare_conversation(self, connection: Connection) -> Conversation:
        """Return a new conversation with the service, without wrappers."""
        pump: Any = self.RequestHandlerClass
        if pump.binding.talks:
            return pump.conversation_class(  # type: ignore[no-any-return]
                pump.service, pump.binding, partial(self.peer_of, connection)
            )
        return Conversation(pump.service, pump.binding)

    def peer_of(self, connection: Connection) -> Peer:
        """Return the peer of a connection, as passed to the service."""
        is_reset: Callable[[], bool] = bool
        has_closed: Callable[[], bool] = bool
        if self.service is not None and self.service.blocks:
            check = PeerCheck(connection, self.limits.write_timeout)
            is_reset, has_closed = check.is_reset, check.has_closed
        wake = partial(self.push, connection)
        return Peer(
            connection.peer, connection.host, self.secure, is_reset, has_closed, wake=wake, outbox=self.limits.outbox
        )

    def push(self, connection: Connection) -> None:
        """Send pushes to the peer of `connection`, or continue its talk that waits.  Does not block.

        Called from any thread."""
        connection.notify()

    @property
    def secure(self) -> bool:
        """Whether connections use TLS."""
        return False

    @property
    def carries_messages(self) -> bool:
        """Whether the request handler is a pump, which handles messages and sets deadlines; False for a raw handler."""
        carries_messages: bool = getattr(self.RequestHandlerClass, "carries_messages", False)
        return carries_messages

    @property
    def service(self) -> Service | None:
        """The service of this server; None for a raw handler."""
        # A foreign handler may have an unrelated attribute of this name.
        service = getattr(self.RequestHandlerClass, "service", None)
        return service if isinstance(service, Service) else None

    @property
    def greets(self) -> bool:
        """Whether the service may send a greeting before the first message."""
        return self.service is not None and self.service.talks and self.service.greets

    def means_peer_closed(self, connection: Connection, error: OSError) -> bool:
        """Return whether an error raised by a handler means that the peer closed the connection."""
        return isinstance(error, ConnectionError)

    def means_peer_silent(self, connection: Connection, error: TimeoutError) -> bool:
        """Return whether a timeout raised by a handler means that the peer was silent: not for datagrams."""
        return False

    def run_handler(self, connection: Connection) -> None:
        """Run the conversation of `connection` to its end."""
        raise NotImplementedError

    def log_to(self, access_log: AccessLog) -> None:
        """Log connections, and the service's requests, to `access_log`."""
        self.access_log = access_log
        if self.service is not None:
            self.service.request_log = access_log.request_log

    def log_failure(self, connection: Connection, failure: BaseException) -> None:
        """Log an exception of the service with its traceback, as one line; the peer never sees it.

        Raise it again if it comes from a signal handler."""
        if signals.is_from_handler(failure):
            raise failure
        if isinstance(failure, ReplyCutShort):
            log.warning("%s: %s", connection.peer, failure)
            return
        log.error("%s: the service failed", connection.peer, exc_info=failure)
