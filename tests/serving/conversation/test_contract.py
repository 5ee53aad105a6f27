"""The contract, fuzzed: for any bytes, and any service, `receive` returns bytes and maybe comes to an
ending; it never raises.  And a memory never changes an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons import Ending, Service, Talk, Until
from daemons.serving.conversation.conversation import IDLE, OVER, PARTIAL, PENDING, Conversation
from daemons.serving.conversation.memory import (
    REMEMBERED_COUNT,
    REMEMBERED_INPUT,
    REMEMBERED_MESSAGES,
    REMEMBERED_REPLY,
    SHORT,
    Memory,
)
from daemons.serving.conversation.reply_stream import BATCH
from tests.serving.services import Echo, conversation
from tests.transcripts.transcripts import replay

#: What a service does with one message: it returns this, or raises it.
DEEDS: st.SearchStrategy[Any] = st.one_of(
    st.binary(max_size=8),
    st.just(b"x" * BATCH),
    st.sampled_from([None, "text", 3]),
    st.sampled_from([ValueError("bug"), SystemExit(1), StopIteration(b"stop"), GeneratorExit(), OSError()]),
)
PIECES = st.lists(st.binary(max_size=20) | st.text("ab\n", max_size=200).map(str.encode), max_size=8)


#: … or in pieces.
DEEDS |= st.lists(DEEDS, max_size=4).map(tuple)


def do(deed: Any) -> Any:
    if isinstance(deed, BaseException):
        raise deed
    return map(do, deed) if isinstance(deed, tuple) else deed


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """One with a service that answers, or fails, in any way."""
    deeds, apology = draw(st.lists(DEEDS, max_size=6)), draw(DEEDS)
    plan = iter(deeds)

    def respond(message: bytes) -> Any:
        return do(next(plan, b"more"))

    def talk() -> Talk:
        try:
            for deed in deeds[:-1]:
                yield do(deed)
            return do(deeds[-1]) if deeds else None
        finally:
            if draw_close:
                do(deeds[0])

    draw_close = bool(deeds) and draw(st.booleans())
    talking = draw(st.booleans())
    return conversation(
        respond=None if talking else respond,
        talk=talk if talking else None,
        apology=lambda ending: do(apology),
        framing=Until(b"\n", limit=16),
    )


@given(conversations(), PIECES, st.data())
def test_for_any_bytes_and_any_service_it_returns_bytes_and_never_raises(
    talk: Conversation, pieces: list[bytes], data: st.DataObject
) -> None:
    heard = [talk.open()]
    for piece in [*pieces, b"", b"more\n"]:
        before = talk.state
        heard.append(talk.receive(piece))
        if before == OVER:
            assert heard[-1] == b""
        while talk.state == PENDING and data.draw(st.booleans()):
            heard.append(talk.proceed())
        assert talk.state in (IDLE, PARTIAL, PENDING, OVER)
        assert (talk.ending is None) is (talk.state != OVER)
        assert (talk.failure is None) or talk.ending is Ending.FAILED
    while talk.state == PENDING:
        heard.append(talk.proceed())
    assert talk.state == OVER
    talk.close()
    assert all(type(reply) is bytes for reply in heard)
    assert max(map(len, heard)) < BATCH + 2 * BATCH  # a batch, a reply, an apology


@given(PIECES)
def test_the_reply_to_one_message_never_depends_on_how_the_others_are_cut(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert replay(Echo(), pieces) == replay(Echo(), [data])


# --- memory ----------------------------------------------------------------------------------------


class Pure(Service):
    framing = Until(b"\n", limit=16, skip=b"\r")
    pure = True

    def respond(self, message: bytes) -> bytes:
        return b"<" + message + b">"

    def apology(self, ending: Ending) -> bytes:
        return str(ending.value).encode()


class Echoing(Pure):
    pure = False


class Forgetful(Memory):
    """Keeps nothing."""

    __slots__ = ()

    def keep(self, data: bytes, messages: Sequence[bytes], reply: bytes) -> None:
        pass


@pytest.mark.parametrize("kind", [Pure, Echoing])
@given(visitors=st.lists(PIECES, max_size=6))
def test_a_memory_never_changes_an_answer_or_an_ending_or_a_count(
    kind: type[Service], visitors: list[list[bytes]]
) -> None:
    memory = Memory(kind())
    for pieces in visitors:
        service = kind()
        with_memory, without = Conversation(service, memory), Conversation(service, Forgetful(service))
        for piece in [*pieces, *pieces, b""]:
            assert with_memory.receive(piece) == without.receive(piece)
            assert with_memory.state == without.state
            assert with_memory.ending == without.ending
            assert with_memory.messages == without.messages


@pytest.mark.parametrize("pure", [True, False])
def test_only_a_pure_service_is_not_asked_the_second_time(pure: bool) -> None:
    asked: list[bytes] = []

    class Counting(Pure):
        def respond(self, message: bytes) -> bytes:
            asked.append(message)
            return message

    Counting.pure = pure
    service = Counting()
    memory = Memory(service)
    for _ in range(3):
        assert Conversation(service, memory).receive(b"a\nb\n") == b"a\nb\n"
    assert asked == [b"a\n", b"b\n"] * (1 if pure else 3)


@pytest.mark.parametrize("pieces", [[b"a\nb"], [b"a", b"\n"], [b"a" * 17], [b"\r"]], ids=repr)
def test_only_whole_messages_that_came_in_one_piece_are_remembered(pieces: list[bytes]) -> None:
    service = Pure()
    memory = Memory(service)
    talk = Conversation(service, memory)
    for piece in pieces:
        talk.receive(piece)
        assert piece not in memory.replies
        assert piece not in memory.alone
        assert piece not in memory.framed


def test_a_failure_is_not_remembered() -> None:
    class Moody(Pure):
        good = False

        def respond(self, message: bytes) -> bytes:
            if not self.good:
                raise RuntimeError("not in the mood")
            return b"good\n"

    service = Moody()
    memory = Memory(service)
    assert Conversation(service, memory).receive(b"a\n") == b"failed"
    service.good = True
    assert Conversation(service, memory).receive(b"a\n") == b"good\n"


@pytest.mark.parametrize(("kind", "where", "messages"), [(Pure, "replies", 1), (Echo, "alone", 1), (Echo, "framed", 2)])
def test_what_a_memory_holds_is_bounded(kind: type[Service], where: str, messages: int) -> None:
    memory = Memory(kind())
    known: Mapping[bytes, object] = getattr(memory, where)
    most = 0
    for number in range(3 * REMEMBERED_COUNT):
        memory.keep(b"%d" % number, [b""] * messages, b"")
        held = sum(b"%d" % earlier in known for earlier in range(max(0, number - 3), number + 1))
        most = max(most, held, len(known))
        assert held > 0
    assert most == REMEMBERED_COUNT


@pytest.mark.parametrize(
    ("data", "reply", "said", "alone"),
    [
        (
            b"a" * (SHORT - 1),
            b"b" * REMEMBERED_REPLY,
            (SHORT - 1, 1, b"b" * REMEMBERED_REPLY, REMEMBERED_REPLY),
            None,
        ),
        # Of one that is as long as what is asked for, there may be more to be read.
        (b"a" * SHORT, b"b", None, b"a"),
        (b"a" * (REMEMBERED_INPUT + 1), b"b", None, None),
        (b"a", b"b" * (REMEMBERED_REPLY + 1), None, b"a"),
    ],
    ids=["the most", "as long as asked for", "input too long", "reply too long"],
)
def test_only_what_is_short_is_remembered(data: bytes, reply: bytes, said: object, alone: object) -> None:
    memory = Memory(Pure())
    memory.keep(data, [b"a"], reply)
    assert memory.replies.get(data) == said
    assert memory.alone.get(data) == alone


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        ([b"a"] * REMEMBERED_MESSAGES, True),
        ([b"a"] * (REMEMBERED_MESSAGES + 1), False),
        ([b"a" * REMEMBERED_INPUT], True),
        ([b"a" * REMEMBERED_INPUT, b"a"], False),
    ],
    ids=["the most", "one too many", "the longest", "unpacked to more"],
)
def test_what_a_short_input_came_to_is_remembered_where_it_is_short_too(messages: list[bytes], kept: bool) -> None:
    memory = Memory(Echo())
    memory.keep(b"short", messages, b"")
    assert (b"short" in memory.framed or b"short" in memory.alone) is kept


def test_the_replies_of_a_service_that_is_not_pure_are_not_remembered() -> None:
    memory = Memory(Echo())
    memory.keep(b"a\n", [b"a\n"], b"a\n")
    memory.keep(b"a\nb\n", [b"a\n", b"b\n"], b"a\nb\n")
    assert memory.replies == {}
    assert memory.alone == {b"a\n": b"a\n"}
    assert memory.framed == {b"a\nb\n": (b"a\n", b"b\n")}
