"""Contract, fuzzed: for any bytes and any service, `receive` returns bytes and may set an ending; it never raises."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daemons import Ending, Fixed, Lines, StartTLS, Stream, SwitchFraming, Talk, Until
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING, WAITING
from daemons.serving.conversation.steps import Wait
from tests.serving.services import Echo, conversation
from tests.transcripts.transcripts import replay

#: Result of a service for one message: returned, raised …
DEEDS: st.SearchStrategy[Any] = st.one_of(
    st.binary(max_size=8),
    st.just(b"x" * BATCH),
    st.sampled_from([None, "text", 3]),
    st.sampled_from([ValueError("bug"), SystemExit(1), StopIteration(b"stop"), GeneratorExit(), OSError()]),
)
PIECES = st.lists(st.binary(max_size=20) | st.text("ab\n", max_size=200).map(str.encode), max_size=8)


#: … or yielded in pieces.
DEEDS |= st.lists(DEEDS, max_size=4).map(tuple)

#: Steps of a talk, which are failures without a declaration.
STEPS = st.one_of(
    st.builds(partial(partial, SwitchFraming), st.just(b"new"), st.sampled_from([Fixed(2), Lines(limit=9), Stream()])),
    st.builds(partial(partial, Wait), st.sampled_from([b"wait", None])),
    st.just(partial(StartTLS, b"go")),
)


def do(deed: Any) -> Any:
    if isinstance(deed, BaseException):
        raise deed
    if isinstance(deed, partial):
        return deed()
    return map(do, deed) if isinstance(deed, tuple) else deed


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Conversations with a service that returns or raises anything."""
    deeds, apology = draw(st.lists(DEEDS | STEPS, max_size=6)), draw(DEEDS)
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
        switches=talking and draw(st.booleans()),
    )


@given(conversations(), PIECES, st.data())
def test_receive_returns_bytes_and_never_raises_for_any_input_and_service(
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
        while talk.state == WAITING:
            heard.append(talk.resume())
        assert talk.state in (IDLE, PARTIAL, PENDING, OVER)
        assert (talk.ending is None) is (talk.state != OVER)
        assert (talk.failure is None) or talk.ending is Ending.FAILED
    while talk.state in (PENDING, WAITING):
        heard.append(talk.proceed() if talk.state == PENDING else talk.resume())
    assert talk.state == OVER
    talk.close()
    assert all(type(reply) is bytes for reply in heard)
    assert max(map(len, heard)) < BATCH + 2 * BATCH  # a batch, a reply, an apology


@given(PIECES)
def test_replies_do_not_depend_on_how_the_input_is_cut(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert replay(Echo(), pieces) == replay(Echo(), [data])
