"""The encrypted conversation: a client's `ssl.SSLObject` against ours, without sockets."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress

import pytest

from daemons import Ending, Peer, Service, Talk, Until
from daemons.framings import Decoder, Framing
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING, SHAKING
from daemons.serving.conversation.tls import OPENSSL_MEMORY
from daemons.tlsd import SECRET, Tlsd
from tests.serving.services import LINE, Echo, Failing, Polite
from tests.serving.tls_client import CUTS, Cut, Line, ours, theirs

both_versions = pytest.mark.parametrize("version", ["1.2", "1.3"])
all_cuts = pytest.mark.parametrize("cut", CUTS.values(), ids=list(CUTS))

#: Upper bound of the bytes that TLS adds to the data of a record.
OVERHEAD = 64


class Large(Service):
    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return line[:1] * 4 * 1024**2


class Skipping(Echo):
    framing = Until(b"\n", limit=64, skip=b"\r")


class UntilTheEnd(Framing):
    """Service whose message lasts until the end of the input."""

    def decoder(self) -> Decoder:
        return _UntilTheEnd()


class _UntilTheEnd(Decoder):
    def __init__(self) -> None:
        super().__init__()
        self.held = b""

    def decode(self, data: bytes) -> Sequence[bytes]:
        self.held += data
        return ()

    @property
    def pending(self) -> bool:
        return bool(self.held)

    def finish(self) -> Sequence[bytes]:
        held, self.held = self.held, b""
        return (held,)


class Order(Service):
    framing = UntilTheEnd()

    def __init__(self) -> None:
        super().__init__()
        self.executed: list[bytes] = []

    def respond(self, message: bytes) -> bytes:
        self.executed.append(message)
        return b"executed"


@both_versions
@all_cuts
def test_messages_are_answered_over_tls(version: str, cut: Cut) -> None:
    line = Line(Echo(), version, cut).shake()
    assert line.client.version() == f"TLSv{version}"
    line.say(b"one\n").say(b"two\nthr").say(b"ee\n" + b"four\n" * 1000)
    assert line.heard == b"one\ntwo\nthree\n" + b"four\n" * 1000
    assert (line.ours.messages, line.ours.state) == (1003, IDLE)
    line.goodbye()
    assert (line.over, line.ours.ending, line.left) == (True, Ending.DONE, True)


@both_versions
@all_cuts
def test_pipeline_of_many_records_in_one_segment_is_answered_in_order(version: str, cut: Cut) -> None:
    line = Line(Echo(), version, cut).shake()
    questions = [b"%d\n" % number for number in range(300)]
    for question in questions:
        line.client.write(question)
    line.goodbye()
    assert line.heard == b"".join(questions)
    assert (line.ours.ending, line.ours.messages) == (Ending.DONE, 300)


@both_versions
def test_state_follows_handshake_and_input(version: str) -> None:
    line = Line(Echo(), version)
    assert (line.ours.state, line.ours.receive(b"\x16")) == (SHAKING, b"")
    line = Line(Echo(), version)
    with pytest.raises(ssl.SSLWantReadError):
        line.client.do_handshake()
    hello = line.take()
    assert (line.ours.receive(hello[:100]), line.ours.state) == (b"", SHAKING)
    flight = line.ours.receive(hello[100:])
    assert (flight[:1], line.ours.state) == (b"\x16", SHAKING)
    line._incoming.write(flight)
    try:
        line.client.do_handshake()
    except ssl.SSLWantReadError:
        assert version == "1.2"
    line._incoming.write(line.ours.receive(line.take()))
    # Nothing was said, but a deadline is over: the engine is asked to look once more.
    assert line.ours.state == PENDING
    assert (line.ours.proceed(), line.ours.state) == (b"", IDLE)
    assert (line.ours.proceed(), line.ours.state) == (b"", IDLE)


def test_incomplete_record_is_partial_and_record_without_a_message_is_idle() -> None:
    line = Line(Skipping()).shake()
    line.client.write(b"\r\r")
    data = line.take()
    for position in range(len(data) - 1):
        assert (line.ours.receive(data[position : position + 1]), line.ours.state) == (b"", PARTIAL)
    assert (line.ours.receive(data[-1:]), line.ours.state) == (b"", PENDING)
    assert (line.ours.proceed(), line.ours.state) == (b"", IDLE)


def test_message_in_the_last_segment_of_the_handshake_is_answered() -> None:
    line = Line(Echo())
    with pytest.raises(ssl.SSLWantReadError):
        line.client.do_handshake()
    line.go()
    line.client.do_handshake()
    line.say(b"at once\n")
    assert line.heard == b"at once\n"


@both_versions
@all_cuts
def test_greeting_follows_handshake_and_close_notify_follows_last_reply(version: str, cut: Cut) -> None:
    line = Line(Polite(), version, cut).shake()
    assert line.heard == b"hello\n"
    line.say(b"a\nbye\nunheard\n")
    assert (line.heard, line.left) == (b"hello\n1\ngoodbye\n", True)
    assert (line.over, line.ours.ending, line.ours.messages) == (True, Ending.FINISHED, 2)
    assert (line.ours.receive(b"x"), line.ours.proceed(), line.ours.receive(b"")) == (b"", b"", b"")


@pytest.mark.parametrize(
    ("service", "words", "ending"), [(Polite, b"bye\n", Ending.FINISHED), (Failing, b"fail\n", Ending.FAILED)]
)
@both_versions
def test_close_notify_in_the_segment_of_the_last_message(
    service: type[Service], words: bytes, ending: Ending, version: str
) -> None:
    line = Line(service(), version).shake()
    line.client.write(words)
    line.goodbye()
    assert line.over
    assert (line.ours.ending, line.left) == (ending, True)


@pytest.mark.parametrize("version", ["1.3"])  # in 1.2 the server has the last word of the handshake
def test_close_notify_at_the_end_of_the_handshake_before_a_greeting_that_is_the_last_reply(version: str) -> None:
    line = Line(Tlsd(), version)
    with suppress(ssl.SSLWantReadError):
        line.client.do_handshake()
    line.go()
    line.client.do_handshake()
    line.goodbye()
    assert line.over
    assert (line.ours.ending, line.heard, line.left) == (Ending.FINISHED, SECRET, True)


def test_failing_service_sends_its_apology_without_the_text_of_the_exception() -> None:
    line = Line(Failing()).shake().say(b"fail\n")
    assert (line.heard, line.left, line.ours.ending) == (b"sorry: failed\n", True, Ending.FAILED)
    assert isinstance(line.ours.failure, RuntimeError)


def test_oversize_message_gets_an_apology() -> None:
    line = Line(Failing()).shake().say(b"x" * 100)
    assert (line.heard, line.left, line.ours.ending) == (b"sorry: oversize\n", True, Ending.OVERSIZE)


@both_versions
def test_large_reply_is_encrypted_in_batches(version: str) -> None:
    line = Line(Large(), version).shake().say(b"a\nb\nc\n")
    assert line.heard == b"".join(word * 4 * 1024**2 for word in (b"a", b"b", b"c"))
    assert line.largest < BATCH + 16384 + 8 * OVERHEAD


def test_messages_before_close_notify_are_answered_in_several_batches() -> None:
    line = Line(Large()).shake()
    line.client.write(b"a\nb\n")
    line.goodbye()
    assert len(line.heard) == 8 * 1024**2
    assert (line.ours.ending, line.left) == (Ending.DONE, True)


@pytest.mark.parametrize(
    ("words", "ending"), [(b"", Ending.DONE), (b"whole\n", Ending.DONE), (b"whole\nhal", Ending.CUT)]
)
def test_end_of_stream_without_close_notify(words: bytes, ending: Ending) -> None:
    line = Line(Echo()).shake()
    if words:
        line.say(words)
    line.end()
    assert (line.over, line.ours.ending) == (True, ending)


def test_end_of_stream_in_the_middle_of_a_record() -> None:
    line = Line(Echo()).shake()
    line.client.write(b"whole\n")
    line.send(line.take()[:-1]).end()
    assert (line.ours.ending, line.ours.messages) == (Ending.CUT, 0)


def test_truncated_stream_does_not_complete_a_message() -> None:
    service = Order()
    assert Line(service).shake().say(b"delete / unless").end().ours.ending is Ending.CUT
    assert service.executed == []
    line = Line(service).shake().say(b"delete / unless I am root").goodbye()
    assert (line.heard, line.ours.ending) == (b"executed", Ending.DONE)


@both_versions
def test_modified_record_ends_the_conversation_with_an_alert(version: str) -> None:
    line = Line(Echo(), version).shake()
    line.client.write(b"whole\n")
    data = line.take()
    alert = line.ours.receive(data[:-1] + bytes([data[-1] ^ 1]))
    assert (alert[:1] in (b"\x15", b"\x17"), len(alert) > 0) == (True, True)
    assert (line.over, line.ours.ending, line.ours.messages) == (True, Ending.MALFORMED, 0)
    assert len(line.reasons) == 1


@both_versions
def test_alert_of_the_peer_counts_as_a_reset(version: str) -> None:
    line = Line(Echo(), version).shake()
    with pytest.raises(ssl.SSLError):
        line.deliver(b"\x17\x03\x03\x00\x1f" + b"no record of ours, only as long")
    line.go()
    assert (line.over, line.ours.ending) == (True, Ending.RESET)
    assert "alert" in line.reasons[0]


def test_close_runs_finally_clauses_that_raise() -> None:
    left: list[str] = []

    class Tidy(Service):
        framing = LINE

        def talk(self, peer: Peer) -> Talk:
            try:
                yield b"hello\n"
            finally:
                left.append("left")
                raise RuntimeError("on the way out")

    line = Line(Tidy()).shake()
    line.ours.close()
    assert (left, line.ours.ending) == (["left"], Ending.FAILED)
    assert isinstance(line.ours.failure, RuntimeError)
    unbegun = Line(Tidy())
    unbegun.ours.close()
    assert (unbegun.ours.failure, left) == (None, ["left"])
    assert unbegun.ours.state != OVER


@all_cuts
@pytest.mark.parametrize("size", [512, 16_000, 131_072])
def test_announced_length_of_a_handshake_message_is_charged_until_the_handshake_is_complete(
    cut: Cut, size: int
) -> None:
    line = Line(Echo(), cut=cut)
    line.send(b"\x16\x03\x01\x00\x06\x01" + size.to_bytes(3, "big") + b"\x03\x03")
    assert line.ours.state == SHAKING
    assert OPENSSL_MEMORY + size <= line.ours.buffered <= OPENSSL_MEMORY + size * 4 // 3 + 100


@all_cuts
@both_versions
def test_client_certificates_are_charged_before_they_are_received(version: str, cut: Cut) -> None:
    line = Line(Echo(), version, cut, context=ours(client_ca=True)).use(theirs(version, "client.pem"))
    with suppress(ssl.SSLWantReadError):
        line.client.do_handshake()
    line.go()
    with suppress(ssl.SSLWantReadError):
        line.client.do_handshake()
    flight = line.take()
    line.send(flight[: len(flight) // 2])
    assert line.ours.state == SHAKING
    assert line.ours.buffered > OPENSSL_MEMORY + (100 * 1024 if version == "1.3" else 500)
    line.send(flight[len(flight) // 2 :])
    with suppress(ssl.SSLWantReadError):
        line.client.do_handshake()
    line.go().deliver(b"")
    assert line.ours.state == IDLE
    assert line.ours.buffered == OPENSSL_MEMORY
    assert line.say(b"a\n").heard == b"a\n"
