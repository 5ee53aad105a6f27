"""PROXY header: at the seam, then for daemons under every engine, with access rules."""

from __future__ import annotations

import signal
import socket
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.framings import FramingError, Incomplete, Malformed
from daemons.framings.proxy import SIGNATURE, Header
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.conversation.states import IDLE, OVER, PENDING, SHAKING
from daemons.serving.proxy_socket import read_header
from tests.operating.folder import Folder
from tests.operating.live import GRAIL, QUEST, Live, until
from tests.serving.services import Echo, Polite

LINE = b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1060\r\n"
BLOCK = SIGNATURE + b"\x21\x11" + struct.pack("!H4s4sHH", 12, b"\xc0\0\2\7", b"\x7f\0\0\1", 4242, 1060)


class Porter:
    """Record headers, and return a verdict."""

    def __init__(self, verdict: Ending | None = None) -> None:
        self.heard: list[Header | FramingError] = []
        self.verdict = verdict

    def __call__(self, header: Header | FramingError) -> Ending | None:
        self.heard.append(header)
        return self.verdict or (Ending.HANDSHAKE if isinstance(header, FramingError) else None)


def said(conversation: Conversation, *pieces: bytes) -> bytes:
    """Return all replies to `pieces`."""
    reply = b""
    for piece in pieces:
        reply += conversation.receive(piece)
        while conversation.state == PENDING:
            reply += conversation.proceed()
    return reply


@pytest.mark.parametrize("header", [LINE, BLOCK], ids=["v1", "v2"])
@pytest.mark.parametrize("size", [1, 1000])
def test_conversation_begins_after_the_header(header: bytes, size: int) -> None:
    porter = Porter()
    conversation = ProxiedConversation(Conversation(Echo()), porter)
    assert conversation.open() == b""
    assert conversation.state == SHAKING
    data = header + b"one\ntwo\n"
    reply = said(conversation, *(data[start : start + size] for start in range(0, len(data), size)))
    assert reply == b"one\ntwo\n"
    assert conversation.messages == 2
    assert conversation.state == IDLE
    assert [each.source for each in porter.heard if isinstance(each, Header)] == [("192.0.2.7", 4242)]
    assert said(conversation, b"") == b""
    assert (conversation.state, conversation.ending) == (OVER, Ending.DONE)


def test_greeting_follows_the_header() -> None:
    conversation = ProxiedConversation(Conversation(Polite()), Porter())
    assert conversation.open() == b""
    assert conversation.receive(LINE[:10]) == b""
    assert conversation.state == SHAKING
    assert said(conversation, LINE[10:]) == b"hello\n"
    assert said(conversation, b"bye\n") == b"goodbye\n"
    assert conversation.ending is Ending.FINISHED


@pytest.mark.parametrize(
    ("pieces", "kind"), [([b"What is your quest?"], Malformed), ([b"PROXY UNK", b""], Incomplete), ([b""], Incomplete)]
)
def test_invalid_header_ends_the_conversation(pieces: list[bytes], kind: type[FramingError]) -> None:
    porter = Porter()
    conversation = ProxiedConversation(Conversation(Polite()), porter)
    assert said(conversation, *pieces) == b""
    assert (conversation.state, conversation.ending) == (OVER, Ending.HANDSHAKE)
    assert [type(each) for each in porter.heard] == [kind]
    assert said(conversation, LINE) == b""
    conversation.close()
    assert conversation.failure is None


def test_refused_peer_is_sent_nothing() -> None:
    conversation = ProxiedConversation(Conversation(Polite()), Porter(Ending.REFUSED))
    assert said(conversation, LINE + b"hello\n") == b""
    assert (conversation.state, conversation.ending, conversation.messages) == (OVER, Ending.REFUSED, 0)


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([LINE, BLOCK, b"one\n", b"PROXY "]))))
def test_any_bytes_are_answered_or_end_the_conversation(pieces: list[bytes]) -> None:
    conversation = ProxiedConversation(Conversation(Echo()), Porter())
    conversation.open()
    for piece in pieces:
        said(conversation, piece)
        assert (conversation.ending is not None) == (conversation.state == OVER)
    conversation.close()


def test_no_byte_after_the_header_is_read_from_a_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        for header in (LINE, BLOCK):
            other.sendall(header + b"rest")
            assert read_header(one, 5.0) == Header(1 if header is LINE else 2, ("192.0.2.7", 4242))
            assert one.recv(100) == b"rest"
        other.sendall(LINE[:20])
        with pytest.raises(TimeoutError):
            read_header(one, 0.01)


# --- daemons ---------------------------------------------------------------------------------------

INI = """
    [daemon]
    service = {service}
    port = 0
    engine = {engine}
    [access]
    allow = 127.0.0.0/8 192.0.2.0/24
    deny = 127.0.0.2 192.0.2.66
    proxies = 127.0.0.3
"""


RAW = """
    import socketserver

    class Shout(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line.upper())
"""


def ask(port: int, words: bytes, host: str = "127.0.0.1") -> bytes:
    """Send `words` from `host`; return all received bytes, none if the connection is reset."""
    with socket.socket() as peer:
        peer.settimeout(10.0)
        peer.bind((host, 0))
        peer.connect(("127.0.0.1", port))
        reply = b""
        try:
            peer.sendall(words)
            peer.shutdown(socket.SHUT_WR)
            while data := peer.recv(65536):
                reply += data
        except OSError:
            pass
        return reply


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("engine", ["one", "threads", "forks", "pool", "loop"])
def test_access_rules_apply_to_the_address_in_the_header(folder: Folder, engine: str) -> None:
    folder.write("x", INI.format(service="launcelot", engine=engine))
    with Live(folder.path, "x") as live:
        port = live.port
        assert ask(port, QUEST) == GRAIL
        assert ask(port, QUEST, "127.0.0.2") == b""
        # From a proxy a header is required …
        assert ask(port, QUEST, "127.0.0.3") == b""
        assert ask(port, LINE + QUEST, "127.0.0.3") == GRAIL
        assert ask(port, BLOCK + QUEST, "127.0.0.3") == GRAIL
        # … and the rules apply to the address in the header, or to the proxy if the header has none.
        assert ask(port, LINE.replace(b".2.7", b".2.66") + QUEST, "127.0.0.3") == b""
        assert ask(port, LINE.replace(b"192", b"193") + QUEST, "127.0.0.3") == b""
        assert ask(port, b"PROXY UNKNOWN\r\n" + QUEST, "127.0.0.3") == GRAIL
        # A header from any other peer is not interpreted: its bytes are part of an unknown question.
        assert ask(port, LINE + QUEST) == b"I don't know that."
        until(lambda: live.out.count(".access[") == 9, "nine access lines")
        assert " refused messages=0 received=0 sent=0 " in live.out
        assert live.out.count("reason=denied") == 2
        assert live.out.count("reason=unlisted") == 1
        assert live.out.count("reason=proxy-malformed") == 1
        assert live.out.count(" 192.0.2.7:4242 done messages=1 ") == 2
        assert live.out.count(" 192.0.2.66:4242 refused messages=0 ") == 1


@pytest.mark.parametrize("engine", ["threads", "forks", "pool"])
def test_raw_handler_does_not_receive_the_header(folder: Folder, engine: str) -> None:
    folder.module("shout", RAW)
    folder.write("x", INI.format(service="", engine=engine).replace("service = ", "handler = shout:Shout"))
    with Live(folder.path, "x") as live:
        assert ask(live.port, LINE + b"ni\n", "127.0.0.3") == b"NI\n"
        assert ask(live.port, b"ni\n", "127.0.0.3") == b""
        assert ask(live.port, LINE.replace(b".2.7", b".2.66") + b"ni\n", "127.0.0.3") == b""
        until(lambda: live.out.count(".access[") == 3, "three access lines")
        assert "192.0.2.7:4242 finished" in live.out
        assert "reason=proxy-malformed" in live.out
        assert "192.0.2.66:4242 refused" in live.out


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_missing_header_is_limited_by_handshake_timeout(folder: Folder, engine: str) -> None:
    folder.write("x", INI.format(service="launcelot", engine=engine))
    with Live(folder.path, "x", "--set", "limits.handshake_timeout=1s") as live, socket.socket() as peer:
        peer.settimeout(10.0)
        peer.bind(("127.0.0.3", 0))
        peer.connect(("127.0.0.1", live.port))
        peer.sendall(LINE[:20])
        assert peer.recv(1) == b""
        until(lambda: " handshake messages=0 received=20 " in live.out, "the access line")


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_max_per_peer_counts_the_address_in_the_header(folder: Folder, engine: str) -> None:
    folder.write("x", INI.format(service="launcelot", engine=engine))
    with Live(folder.path, "x", "--set", "limits.max_per_peer=1") as live:

        def connect(header: bytes) -> socket.socket:
            peer = socket.socket()
            peer.settimeout(10.0)
            peer.bind(("127.0.0.3", 0))
            peer.connect(("127.0.0.1", live.port))
            peer.sendall(header + QUEST)
            return peer

        with connect(LINE) as first, connect(LINE.replace(b"2.7", b"2.8")) as second:
            assert first.recv(100) == GRAIL
            assert second.recv(100) == GRAIL
            with connect(LINE) as third:
                assert third.recv(100) == b""
        until(lambda: " 192.0.2.7:4242 refused " in live.out, "the access line")
        assert "reason=crowded" in live.out


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_max_per_peer_counts_an_ipv6_network_of_64_bits_as_one_peer(folder: Folder, engine: str) -> None:
    folder.write("x", INI.format(service="launcelot", engine=engine).replace("192.0.2.0/24", "2001:db8::/32"))
    with Live(folder.path, "x", "--set", "limits.max_per_peer=2") as live, ExitStack() as stack:

        def answer(source: str) -> bytes:
            peer = stack.enter_context(socket.socket())
            peer.settimeout(10.0)
            peer.bind(("127.0.0.3", 0))
            peer.connect(("127.0.0.1", live.port))
            peer.sendall(f"PROXY TCP6 {source} 2001:db8::1 4242 80\r\n".encode() + QUEST)
            return peer.recv(100)

        assert [answer(f"2001:db8:0:7::{number}") for number in (1, 2, 3)] == [GRAIL, GRAIL, b""]
        assert answer("2001:db8:0:7:ffff:ffff:ffff:ffff") == b""
        assert answer("2001:db8:0:8::1") == GRAIL
        until(lambda: live.out.count("reason=crowded") == 2, "the access lines")


def test_reload_changes_the_access_rules(folder: Folder) -> None:
    folder.write("x", INI.format(service="launcelot", engine="threads"))
    with Live(folder.path, "x") as live:
        assert ask(live.port, QUEST) == GRAIL
        assert ask(live.port, QUEST, "127.0.0.2") == b""
        folder.write(
            "x", INI.format(service="launcelot", engine="threads").replace("deny = 127.0.0.2", "deny = 127.0.0.1")
        )
        live.process.send_signal(signal.SIGHUP)
        until(lambda: "reloaded; changed: access.deny" in live.out, "the reload")
        assert ask(live.port, QUEST) == b""
        assert ask(live.port, QUEST, "127.0.0.2") == GRAIL
