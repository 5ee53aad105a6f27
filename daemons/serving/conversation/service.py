"""What a daemon says: the class that authors write."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from daemons.framings import Framing
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice

#: What is said to a message: at once, or in pieces that are made as the peer takes them.
Reply: TypeAlias = bytes | Iterator[bytes] | Iterator[bytes | FileSlice]

#: What `Service.talk` makes: it yields replies (None says nothing), is sent messages, and may
#: return its last words.
Talk: TypeAlias = Generator[Reply | None, bytes, Reply | None]


class ReplyCutShort(Exception):
    """Raised by the iterator of a reply whose rest cannot be had, which is no bug of the service: the connection is
    closed, and the text is logged in one line, without a traceback."""


class PeerLeft(ReplyCutShort):
    """The same, because the peer has reset the connection: that is no failure, and is not logged as one."""


class Peer(NamedTuple):
    """Who a conversation is with."""

    #: As the log shows it: ``127.0.0.1:53412``, ``[::1]:53412`` or ``unix:pid=42,uid=1000``.
    peer: str
    #: What all conversations of one peer share: its IP address, or ``unix``.
    host: str
    #: Whether it is over TLS.
    secure: bool


class Requests(Protocol):
    """Where each request is told: a `daemons.operating.logging.request_log.RequestLog`."""

    def entry(self, request: Any, status: int, size: int | None, user: str = "") -> tuple[str, str]: ...
    def log(self, host: str, entry: tuple[str, str]) -> None: ...


class Service:
    """What a daemon says.  Subclass it, name a `framing`, and write `respond` or `talk`.

    One object serves every visitor of a process, from many threads at once under some engines:
    *`self` belongs to everyone; the locals of `talk` belong to this visitor.*

    Raises `TypeError` when made from a class that lacks what a daemon needs.
    """

    #: How messages stand on the wire: of the class, or, where options decide, set before `__init__` is called.
    framing: Framing
    #: Whether the reply depends on the message alone.  If so it may be remembered.
    pure: ClassVar[bool] = False
    #: Whether `respond` waits for something else (a disk, a database, another server).  Such a service cannot
    #: run under `loop`, and gets threads at once under `pool`.  Where options decide, it is set by `__init__`, and may
    #: be a text: what of them has it wait.
    blocks: bool | str = False
    #: Whether visitors share what `self` holds, so that they cannot be served in processes of their own.
    shares: ClassVar[bool] = False
    #: Whether a `talk` may say something before it is asked; if not, it may begin no sooner than something comes.
    greets: ClassVar[bool] = True
    #: Whether what it says is secret, so that it must be served over TLS alone.
    tls_only: ClassVar[bool] = False
    #: The service that speaks at udp:// listeners in place of this one, with the same options, where a datagram is
    #: framed in another way, or must not become too long; None: this one.
    datagrams: ClassVar[type[Service] | None] = None
    #: Over UDP: whether clients may send from the port at which the service listens, as in DNS, where no answer is
    #: taken for a question.  If not, such datagrams are dropped: two services might answer each other for ever.
    same_port: ClassVar[bool] = False
    #: A frozen dataclass of `daemons.setting` fields: the service's own section in its ini.
    Options: ClassVar[type[Any] | None] = None

    #: Where a service that speaks HTTP tells each request; None: nowhere.
    requests: Requests | None = None

    #: For the client ``daemons ask``: what it asks when it is given no words of its own …
    questions: ClassVar[Sequence[bytes]] = ()
    #: … and how it finds the end of a reply; None: the reply lasts until the connection closes.
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
        """For the client: the messages, not yet framed, that the words of a command line stand for: one each."""
        return [cls.question(word) for word in words]

    @classmethod
    def question(cls, word: bytes, /) -> bytes:
        """For the client: the message that one word stands for."""
        return word

    @classmethod
    def shown(cls, answer: bytes, /) -> bytes:
        """For the client: how it prints an answer."""
        return answer

    @classmethod
    def matches(cls, question: bytes, answer: bytes, /) -> bool:
        """For the client, over UDP: whether this is the answer to that question, and not to an earlier one."""
        return True

    def respond(self, message: bytes, /) -> Reply:
        """The reply to one message.  An exception ends this conversation, is logged with its
        traceback, and its text never reaches the peer.

        A reply too long for memory is an iterator of its pieces, usually a generator, for a framing that sends replies
        unchanged.  Pieces are drawn as the peer takes them; the next message is answered after the last.  A piece may
        be a `FileSlice` of an open file, sent with sendfile(2).  A ``close()`` of the iterator is called at the end, or
        when the peer has gone.  After an exception in it nothing more is sent, since half of the reply may be out;
        `ReplyCutShort` is logged without a traceback."""
        raise NotImplementedError

    def talk(self) -> Talk:
        """The whole conversation with one visitor, for replies that depend on what came before.

        The first ``yield`` greets (None says nothing); then ``message = yield reply``, for ever or
        until ``return last_words``.  As it stands, it calls `respond` for each message.
        """
        reply: Reply | None = None
        while True:
            reply = self.respond((yield reply))

    def talk_with(self, visitor: Peer, /) -> Talk:
        """As `talk`, for a service that has to know whom it talks with; it is what is called.  As it stands, it calls
        `talk`."""
        return self.talk()

    @property
    def talks(self) -> bool:
        """Whether it has a `talk` or `talk_with` of its own."""
        kind = type(self)
        return kind.talk is not Service.talk or kind.talk_with is not Service.talk_with

    @property
    def visited(self) -> bool:
        """Whether it has to know whom it talks with, which is not told for nothing."""
        return type(self).talk_with is not Service.talk_with

    def bound_waiting(self, most: int, /) -> None:
        """Have at most `most` calls of `respond` wait for something else at a time: a pool needs its other threads for
        calls that do not wait.  For services that can answer otherwise; by default nothing."""

    def share_with_children(self) -> None:
        """Make what the processes of ``engine = forks`` are to share: called once, before the first of them is forked.
        By default nothing."""

    def truncated(self, datagram: bytes, /) -> bytes:
        """Over UDP: what to answer in place of an answer that is longer than `Limits.amplification` allows, and is
        not to be sent.  Nor is this, where it is too long as well.  By default nothing."""
        return b""

    def apology(self, ending: Ending, /) -> bytes:
        """What to say, already framed, to a peer whose message could not be read or answered, before
        closing.  `ending` is OVERSIZE, MALFORMED or FAILED.  By default nothing."""
        return b""
