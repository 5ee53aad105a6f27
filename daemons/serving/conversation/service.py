"""Base class of services: how a daemon replies to messages."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

from daemons.framings import Framing
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.peer import Peer

#: Reply to a message: complete, or an iterator of pieces that are requested as the peer reads them.
Reply: TypeAlias = bytes | Iterator[bytes] | Iterator[bytes | FileSlice]

#: Generator returned by `Service.talk`: it yields replies (None: no reply), is sent messages, and may return a last
#: reply.
Talk: TypeAlias = Generator[Reply | None, bytes, Reply | None]


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
    #: Name of the protocol, if it needs a stream, so that the service is refused on udp:// listeners.
    stream_protocol: ClassVar[str] = ""
    #: Whether replies are confidential, so that the service is refused on listeners without TLS.
    tls_only: ClassVar[bool] = False
    #: Service class for udp:// listeners, created with the same options, if datagrams need another framing or a maximum
    #: length; None: this class.
    datagrams: ClassVar[type[Service] | None] = None
    #: Over UDP: whether a client's port may be the number of the port on which the service listens.  If not, such
    #: datagrams are dropped, since two services could reply to each other forever.  DNS may allow it: a DNS server does
    #: not reply to a reply.
    same_port: ClassVar[bool] = False
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
