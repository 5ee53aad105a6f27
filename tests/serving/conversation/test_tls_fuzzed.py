"""For any bytes, an encrypted conversation returns bytes and may set an ending; it never raises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemons.serving.conversation.states import OVER
from tests.serving.services import Polite
from tests.serving.tls_client import Line, take_steps

#: Bytes to receive, or None: proceed, whether that is called for or not.
STEPS = st.lists(st.none() | st.binary(max_size=64) | st.sampled_from([b"", b"\x16\x03\x01\x00\x05", b"\x15\x03\x03"]))


@given(STEPS)
def test_any_bytes_before_the_handshake(steps: list[bytes | None]) -> None:
    take_steps(Line(Polite()).ours, steps)


@given(st.sampled_from(["1.2", "1.3"]), STEPS)
def test_any_bytes_after_the_handshake(version: str, steps: list[bytes | None]) -> None:
    take_steps(Line(Polite(), version).shake().ours, steps)


@given(st.sampled_from(["1.2", "1.3"]), st.binary(min_size=1), st.data())
def test_conversation_with_one_byte_changed(version: str, words: bytes, data: st.DataObject) -> None:
    line = Line(Polite(), version).shake()
    line.client.write(words)
    sent = bytearray(line.take())
    sent[data.draw(st.integers(0, len(sent) - 1))] ^= data.draw(st.integers(1, 255))
    take_steps(line.ours, [bytes(sent), None, b""])
    assert line.ours.state == OVER
    assert line.ours.messages == 0


@given(st.sampled_from(["1.2", "1.3"]), st.data())
def test_client_hello_with_one_byte_changed(version: str, data: st.DataObject) -> None:
    line = Line(Polite(), version)
    try:
        line.client.do_handshake()
    except OSError:
        pass
    hello = bytearray(line.take())
    hello[data.draw(st.integers(0, len(hello) - 1))] ^= data.draw(st.integers(1, 255))
    take_steps(line.ours, [bytes(hello), None, b"", None])
    assert line.ours.state == OVER


@given(st.sampled_from(["1.2", "1.3"]), st.lists(st.binary(max_size=300).filter(bool)), st.data())
def test_messages_cut_anywhere_are_received_unchanged(version: str, words: list[bytes], data: st.DataObject) -> None:
    line, whole = Line(Polite(), version).shake(), Line(Polite(), version).shake()
    for word in words:
        line.client.write(word)
        whole.say(word)
        if whole.over:
            break
    sent = line.take()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        if start != end:
            line.send(sent[start:end])
    assert (line.heard, line.ours.state, line.ours.ending) == (whole.heard, whole.ours.state, whole.ours.ending)
