"""Base class of services: how a daemon replies to messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, Protocol, TypeAlias

from daemons.framings import Framing
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.executor import Executor
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.reply import Reply
from daemons.serving.conversation.steps import Step

#: Generator returned by `Service.talk`: it yields replies (None: no reply) or a `Step`, is sent messages (or the result
#: of the step), and may return a last reply.
Talk: TypeAlias = Generator[Reply | Step | None, Any, Reply | None]


class ReplyCutShort(Exception):
    """Raised by the iterator of a reply whose remaining pieces are unavailable, for a reason other than a bug.

    The connection is closed, and the text is logged in one line, without a traceback.
    """


class PeerLeft(ReplyCutShort):
    """Raised in place of `ReplyCutShort` if the peer has reset the connection, which is not logged as a failure."""


class RequestLog(Protocol):
    """Log of HTTP requests; implemented by `daemons.operating.logging.request_log`."""

    def entry(self, request: Any, status: int, size: int | None, user: str = "") -> tuple[str, str]: ...
    def log(self, host: str, entry: tuple[str, str]) -> None: ...


class Service:
    """Replies to messages.  Subclass it, set a `framing`, and define `respond` or `talk`.

    One instance serves all peers of a process, under some engines from many threads at once:
    *`self` is shared by all conversations; the locals of `talk` belong to one.*

    The constructor raises `TypeError` if the class has no framing, or defines neither `respond` nor `talk`.
    """

    #: Framing of messages: a class attribute or, if it depends on options, set before `Service.__init__` is called.
    framing: Framing
    #: Whether the reply depends on the message alone.  If so, replies are cached.
    pure: ClassVar[bool] = False
    #: Whether `respond` blocks, on a disk, a database or another server.  Such a service cannot run under `loop`, and
    #: is offloaded to threads from the start under `pool`.  If it depends on options, `__init__` sets it; a string
    #: names the cause, for the error message.
    blocks: bool | str = False
    #: Whether peers share state in `self`, so that they must be served by one process.
    shares: ClassVar[bool] = False
    #: Whether a `talk` may send a greeting; if not, it may begin when the first input is received.
    greets: ClassVar[bool] = True
    #: Whether replies are confidential, so that the service is refused on listeners without TLS.
    tls_only: ClassVar[bool] = False
    #: Service class for udp:// listeners, created with the same options, if datagrams need another framing or a maximum
    #: length; None: this class.
    datagrams: ClassVar[type[Service] | None] = None
    #: Over UDP: whether a client's port may be the number of the port on which the service listens.  If not, such
    #: datagrams are dropped, since two services could reply to each other forever.  DNS may allow it: a DNS server does
    #: not reply to a reply.
    same_port: ClassVar[bool] = False
    #: Maximum number of functions that `submit` runs at the same time, and of those that wait.
    submit_threads: int = 16
    submit_pending: int = 1000
    #: What `every` was called with.
    periodic: Sequence[tuple[float, Callable[[], object]]] = ()
    _executor: Executor | None = None
    #: A frozen dataclass of `daemons.setting` fields: the service's own section in its ini.
    Options: ClassVar[type[Any] | None] = None

    #: For a service over HTTP, the log of its requests; None: they are not logged.
    request_log: RequestLog | None = None

    #: Messages that ``daemons ask`` sends if its command line has none.
    questions: ClassVar[Sequence[bytes]] = ()
    #: Framing with which ``daemons ask`` reads replies; None: a reply ends when the connection closes.
    answers: ClassVar[Framing | None] = None

    def __init__(self, options: Any = None) -> None:
        kind = type(self)
        if not isinstance(getattr(self, "framing", None), Framing):
            raise TypeError(f"{kind.__name__}: no framing; write for example framing = Until(b'?', limit=4096)")
        if kind.respond is Service.respond and not self.talks:
            raise TypeError(f"{kind.__name__}: neither respond() nor talk() is defined; one is expected")
        self.options = options

    @classmethod
    def messages(cls, words: Sequence[bytes], /) -> Sequence[bytes]:
        """Return the messages, not yet framed, for the arguments of ``daemons ask``: by default one for each."""
        return [cls.question(word) for word in words]

    @classmethod
    def question(cls, word: bytes, /) -> bytes:
        """Return the message for one argument of ``daemons ask``."""
        return word

    @classmethod
    def shown(cls, answer: bytes, /) -> bytes:
        """Return a reply as ``daemons ask`` prints it."""
        return answer

    @classmethod
    def matches(cls, question: bytes, answer: bytes, /) -> bool:
        """Return whether `answer` is the reply to `question`, for ``daemons ask`` over UDP: it may be a late reply to
        an earlier message."""
        return True

    def respond(self, message: bytes, /) -> Reply:
        """Return the reply to one message.

        An exception ends the conversation and is logged with its traceback; its text is never sent to the peer.

        For a reply too long for memory, return an iterator of its pieces, usually a generator; the framing must be one
        that sends replies unchanged.  Pieces are requested as the peer reads them; the next message is answered after
        the last piece.  A piece may be a `FileSlice` of an open file, sent with sendfile(2).  If the iterator has a
        ``close()`` method, it is called at the end of the reply, or when the peer has closed the connection.  If the
        iterator raises an exception, nothing more is sent, since part of the reply may have been sent already;
        `ReplyCutShort` is logged without a traceback.

        For a reply that comes later, return the future of `submit`, or define ``async def respond``: this peer waits,
        and no other does.
        """
        raise NotImplementedError

    def talk(self, peer: Peer, /) -> Talk:
        """Hold the conversation with `peer`, for replies that depend on the peer or on earlier messages.

        The first ``yield`` sends a greeting (None: none); each further ``message = yield reply`` sends a reply and
        receives a message; ``return reply`` sends a last reply and closes.  By default, `respond` is
        called for each message.
        """
        reply: Reply | None = None
        while True:
            reply = self.respond((yield reply))

    @property
    def talks(self) -> bool:
        """Whether the class overrides `talk`."""
        return type(self).talk is not Service.talk

    # --- the life of a service ---------------------------------------------------------------------

    def start(self) -> None:
        """Prepare to serve.  Called once in each serving process, after the fork and before the first connection.

        An exception keeps the process from serving.  By default, do nothing."""

    def close(self) -> None:
        """Release what `start` has acquired.  Called once, after the last connection.  By default, do nothing."""

    def every(self, seconds: float, function: Callable[[], object], /) -> None:
        """Call `function` every `seconds` seconds while the daemon runs.  To be called in `__init__` or `start`.

        The calls are made in the thread that waits for connections, so they must not block: `submit` what does.  An
        exception is logged, at most once a minute, and does not stop the calls."""
        if not seconds > 0:
            raise ValueError(f"every: seconds={seconds}; a number greater than 0 is expected")
        self.periodic = [*self.periodic, (seconds, function)]

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Call ``function(*arguments)`` in another thread, and return its future, which is a reply.

        At most `submit_threads` calls run at the same time, and `submit_pending` more wait.  Raises `queue.Full` beyond
        that: a service then replies at once that it is busy.  If the peer leaves, its call is canceled if it has not
        begun.
        """
        return self.executor.submit(function, *arguments)

    @property
    def executor(self) -> Executor:
        """The threads of `submit`, and the asyncio loop of ``async def respond``."""
        executor = self._executor
        if executor is None or executor.process != os.getpid():
            executor = self._executor = Executor(self.submit_threads, self.submit_pending)
        return executor

    def close_executor(self) -> None:
        """End the threads of `executor`, if there are any.  Called after `close`."""
        executor, self._executor = self._executor, None
        if executor is not None and executor.process == os.getpid():
            executor.close()

    def limit_blocking_calls(self, most: int, /) -> None:
        """Set the maximum number of calls of `respond` that may block at the same time.

        A pool needs the other threads for calls that do not block.  A service that can send another reply beyond the
        limit, such as 503, overrides this; by default, do nothing."""

    def share_with_children(self) -> None:
        """Create state in shared memory for the processes of ``engine = forks``.  Called once, before the first fork.
        By default, do nothing."""

    def truncated(self, datagram: bytes, /) -> bytes:
        """Return a datagram to send in place of a reply longer than `Limits.amplification` allows.

        It is dropped as well if it is too long.  By default, empty: nothing is sent.
        """
        return b""

    def apology(self, ending: Ending, /) -> bytes:
        """Return the bytes, already framed, to send before closing after a message that could not be decoded or
        answered.  `ending` is OVERSIZE, MALFORMED or FAILED.  By default, empty."""
        return b""
