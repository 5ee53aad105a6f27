"""A talk that begins TLS on a connection that was in clear."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons import Ending, Fixed, Lines, Peer, Service, StartTLS, SwitchFraming, Talk
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.conversation.start_tls import UpgradableConversation
from daemons.serving.conversation.states import IDLE, OVER, PENDING, SHAKING
from daemons.serving.conversation.stepping import SteppingConversation, conversation_class
from daemons.serving.conversation.tls import OPENSSL_MEMORY, TLS
from tests.serving.tls_client import CUTS, VERSIONS, Cut, Line, ours, take_steps, whole


class Mail(Service):
    """Reply to each line with the line and whether it was encrypted; begin TLS on STARTTLS."""

    framing = Lines(limit=100)
    starts_tls = True
    switches = True

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self.executed: list[bytes] = []
        self.peers: list[Peer] = []

    def talk(self, peer: Peer) -> Talk:
        self.peers.append(peer)
        line = yield b"220 tls" if peer.can_start_tls else b"220"
        while line != b"QUIT":
            self.executed.append(line)
            if line == b"STARTTLS":
                line = yield StartTLS(b"220 go ahead")
            elif line == b"BDAT":
                data = yield SwitchFraming(None, Fixed(3))
                line = yield SwitchFraming(b"", self.framing) if data == b"..." else None
            else:
                line = yield line + (b" secure" if peer.secure else b" clear")
        return b"221"

    def apology(self, ending: Ending) -> bytes:
        return f"<{ending.value}>".encode()


class Upgraded(Line):
    """A client that begins in clear.  `clear` has the bytes received before the handshake."""

    def __init__(self, service: Service, version: str = "1.3", cut: Cut = whole, proxied: bool = False) -> None:
        self.reasons = []
        self.tls = TLS(ours())
        conversation: Conversation = SteppingConversation(service)
        assert isinstance(conversation, SteppingConversation)
        conversation = UpgradableConversation(conversation, self.tls, self.reasons.append)
        self.begin(ProxiedConversation(conversation, lambda header: None) if proxied else conversation, version, cut)
        self.clear = self.ours.open()

    def say_in_clear(self, data: bytes) -> Upgraded:
        for piece in self.cut(data):
            self.clear += self.ours.receive(piece)
            while self.ours.state == PENDING:
                self.clear += self.ours.proceed()
        return self


all_cuts = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
both_versions = pytest.mark.parametrize("version", VERSIONS)


@all_cuts
@both_versions
@pytest.mark.parametrize("proxied", [False, True])
def test_talk_continues_encrypted_after_the_handshake(version: str, cut: Cut, proxied: bool) -> None:
    service = Mail()
    line = Upgraded(service, version, cut, proxied)
    if proxied:
        line.say_in_clear(b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 25\r\n")
    line.say_in_clear(b"HELO\r\nNOOP\r\nSTARTTLS\r\n")
    assert line.clear == b"220 tls\nHELO clear\nNOOP clear\n220 go ahead\n"
    assert (line.ours.state, line.ours.messages, line.ours.ending) == (SHAKING, 3, None)
    assert [peer.secure for peer in service.peers] == [False]
    line.shake()
    assert (line.heard, line.ours.state, line.ours.messages) == (b"", IDLE, 3)
    assert [(peer.secure, peer.can_start_tls) for peer in service.peers] == [(True, False)]
    line.say(b"HELO\r\nBDAT\r\n...NO").say(b"OP\r\nQUIT\r\n")
    assert line.heard == b"HELO secure\nNOOP secure\n221\n"
    assert (line.left, line.over, line.ours.ending, line.ours.messages) == (True, True, Ending.FINISHED, 8)
    assert line.ours.failure is None


@all_cuts
def test_peer_may_leave_after_the_handshake(cut: Cut) -> None:
    line = Upgraded(Mail(), cut=cut).say_in_clear(b"STARTTLS\n").shake()
    line.goodbye().end()
    assert (line.over, line.ours.ending) == (True, Ending.DONE)


# --- bytes in clear behind the command --------------------------------------------------------------


@given(st.binary(min_size=1, max_size=30))
def test_bytes_behind_the_command_end_the_conversation_before_the_reply(injected: bytes) -> None:
    service = Mail()
    conversation = UpgradableConversation(SteppingConversation(service), TLS(ours()))
    output = conversation.open() + conversation.receive(b"HELO\nSTARTTLS\n" + injected)
    while conversation.state == PENDING:
        output += conversation.proceed()
    assert output == b"220 tls\nHELO clear\n<malformed>"
    assert (conversation.state, conversation.ending) == (OVER, Ending.MALFORMED)
    assert conversation.reason == f"{len(injected)} bytes in clear behind the command to start TLS"
    assert service.executed == [b"HELO", b"STARTTLS"]
    assert conversation.receive(b"NOOP\n") == b""


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=3))
def test_bytes_in_clear_behind_the_reply_are_not_used(injected: list[bytes]) -> None:
    service = Mail()
    conversation = UpgradableConversation(SteppingConversation(service), TLS(ours()))
    conversation.open()
    assert conversation.receive(b"STARTTLS\n") == b"220 go ahead\n"
    for piece in [*injected, b""]:
        conversation.receive(piece)
    assert service.executed == [b"STARTTLS"]
    assert conversation.state == OVER
    begins_like_tls = injected[0][:1] == b"\x16"
    assert conversation.ending is (Ending.HANDSHAKE if begins_like_tls else Ending.MALFORMED)
    assert begins_like_tls or conversation.reason == "bytes in clear behind the command to start TLS"
    assert conversation.receive(b"x") == conversation.proceed() == conversation.deliver() == b""


@pytest.mark.parametrize("cut", ["STARTTLS\n|", "STARTTLS|\n", "|STARTTLS\n"])
def test_end_of_input_in_place_of_a_handshake(cut: str) -> None:
    conversation = UpgradableConversation(SteppingConversation(Mail()), TLS(ours()))
    conversation.open()
    for piece in filter(None, cut.encode().split(b"|")):
        conversation.receive(piece)
    assert conversation.state == SHAKING
    assert conversation.receive(b"") == b""
    assert (conversation.state, conversation.ending) == (OVER, Ending.HANDSHAKE)


# --- where TLS cannot begin -------------------------------------------------------------------------


def test_without_a_certificate_the_talk_knows_and_the_step_is_a_failure() -> None:
    conversation = SteppingConversation(Mail())
    assert conversation.open() == b"220\n"
    assert conversation.receive(b"STARTTLS\n") == b"<failed>"
    assert str(conversation.failure) == "Mail.talk yielded StartTLS, but peer.can_start_tls is False"


def test_tls_cannot_begin_twice() -> None:
    line = Upgraded(Mail()).say_in_clear(b"STARTTLS\n").shake()
    line.say(b"STARTTLS\n")
    assert (line.heard, line.ours.ending) == (b"<failed>", Ending.FAILED)
    assert isinstance(line.ours.failure, TypeError)


@pytest.mark.parametrize("reply", ["text", iter([b"a"]), 3])
def test_reply_that_begins_tls_is_whole(reply: object) -> None:
    with pytest.raises(TypeError, match=r"StartTLS: the reply is .*; bytes or None are expected"):
        StartTLS(reply)  # type: ignore[arg-type]


# --- the rest ---------------------------------------------------------------------------------------


def test_pushes_before_the_reply_are_in_clear_and_later_ones_encrypted() -> None:
    service = Mail()
    line = Upgraded(service).say_in_clear(b"HELO\n")
    service.peers[0].send(b"before")
    line.say_in_clear(b"STARTTLS\n")
    assert line.clear.endswith(b"clear\nbefore\n220 go ahead\n")
    service.peers[0].send(b"after")
    assert (line.ours.pushed, line.ours.deliver()) == (False, b"")
    line.shake()
    assert line.heard == b"after\n"
    service.peers[0].send(b"later")
    line.deliver(line.ours.deliver())
    assert line.heard == b"after\nlater\n"


def test_greeting_may_begin_tls() -> None:
    class Now(Mail):
        def talk(self, peer: Peer) -> Talk:
            line: bytes = yield StartTLS(b"now")
            return line

    line = Upgraded(Now())
    assert (line.clear, line.ours.state) == (b"now\n", SHAKING)
    assert line.shake().say(b"a\n").heard == b"a\n"


def test_certificate_is_that_of_the_time_of_the_handshake() -> None:
    line = Upgraded(Mail())
    line.tls.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # it has no certificate
    line.say_in_clear(b"STARTTLS\n")
    with suppress(ssl.SSLError):
        line.shake()
    assert line.ours.ending is Ending.HANDSHAKE
    assert len(line.reasons) == 1


def test_memory_of_openssl_is_charged_from_the_first_bytes_of_the_handshake() -> None:
    line = Upgraded(Mail()).say_in_clear(b"STARTTLS\n")
    assert line.ours.buffered == 0
    with suppress(ssl.SSLWantReadError):
        line.client.do_handshake()
    line.go()
    assert line.ours.buffered >= OPENSSL_MEMORY


STEPS = st.lists(
    st.none() | st.binary(max_size=40) | st.sampled_from([b"", b"HELO\n", b"STARTTLS\n", b"\x16\x03\x01\x00\x05"])
)


@given(STEPS)
def test_any_bytes_at_any_time(steps: list[bytes | None]) -> None:
    service = Mail()
    conversation = UpgradableConversation(SteppingConversation(service), TLS(ours()))
    conversation.open()
    take_steps(conversation, steps)
    assert service.executed[-1:] == [b"STARTTLS"] or b"STARTTLS" not in service.executed


def test_service_that_starts_tls_steps() -> None:
    assert conversation_class(Mail()) is SteppingConversation
