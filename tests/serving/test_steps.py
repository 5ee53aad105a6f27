"""Talks that change the framing or begin TLS, under every engine, over sockets; and the programs of the tutorial."""

from __future__ import annotations

import ipaddress
import random
import shutil
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemons import Ending, Lines, Peer, Service, StartTLS, SwitchFraming, Talk, Until
from daemons.serving.conversation.stepping import conversation_class
from daemons.serving.conversation.tls import TLS
from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from daemons.serving.start_tls import StartTLSServer
from daemons.serving.stream import StreamServer
from tests.certificates import folder
from tests.end_to_end.page import File, steps
from tests.serving.conftest import Run, once
from tests.serving.peers import DEADLINE, connect, converse, hear, hear_all, name_of
from tests.serving.running import ROOT, Process, Within, access_of
from tests.serving.tls_client import ours, theirs


class Post(Service):
    """A small mail server: DATA changes the framing, STARTTLS begins TLS."""

    framing = Lines(limit=1000)
    switches = starts_tls = True

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self.peers: list[Peer] = []

    def talk(self, peer: Peer) -> Talk:
        self.peers.append(peer)
        line = yield b"220 tls" if peer.can_start_tls else b"220"
        while line != b"QUIT":
            if line == b"DATA":
                text = yield SwitchFraming(b"354", Until(b"\r\n.\r\n", limit=1 << 20))
                line = yield SwitchFraming(b"250 %d\n" % len(text), self.framing)
            elif line == b"STARTTLS" and peer.can_start_tls:
                line = yield StartTLS(b"220 go ahead")
            else:
                line = yield line + (b" secure" if peer.secure else b" clear")
        return b"221"


BODY = b"QUIT\r\n" * 20_000 + b".\r\n"
SENT = b"HELO\r\n" + b"DATA\r\n" + BODY + b"NOOP\r\nDATA\r\n.\r\n\r\n.\r\nQUIT\r\n"
HEARD = b"HELO clear\n354\n250 %d\nNOOP clear\n354\n250 8\n221\n" % len(BODY)

PAGE = ROOT / "docs" / "writing-a-daemon.md"

CUT = b"DATA\r\n" + b"QUIT\r\n.." * 20 + b"\r\n.\r\nHELO\r\nDATA\r\n\n\r\n.\r\nQUIT\r\n"

Start = Callable[..., Within]
HERE = ["one", "threads", "pool", "loop"]


@once
def test_framing_changes_with_all_messages_pipelined(run: Run) -> None:
    running = run(Post)
    heard, name = converse(running.address, SENT)
    assert heard == b"220\n" + HEARD
    assert access_of(running, name) == ("finished", "7")


@once
def test_framing_changes_with_a_reply_awaited_before_each_message(run: Run) -> None:
    running = run(Post)
    with connect(running.address) as peer:
        hear(peer, b"220\n")
        for _ in range(3):
            peer.sendall(b"DATA\r\n")
            hear(peer, b"354\n")
            peer.sendall(b"a\r\nQUIT\r\n.\r\n")
            hear(peer, b"250 12\n")
            peer.sendall(b"HELO\r\n")
            hear(peer, b"HELO clear\n")


@once
def test_framing_changes_at_random_cuts_of_many_peers(run: Run) -> None:
    running = run(Post)
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)
    for _ in range(4):
        with connect(running.address) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hear(peer, b"220\n")
            start = 0
            while start < len(CUT):
                size = dice.choice((1, 2, 3, 5, 20, 100))
                peer.sendall(CUT[start : start + size])
                start += size
            assert hear_all(peer) == b"354\n250 165\nHELO clear\n354\n250 6\n221\n", seed


@pytest.mark.parametrize("engine", HERE)
def test_framing_changes_over_tls_and_behind_a_proxy(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(Post()))
    assert isinstance(running.server, StreamServer)
    running.server.tls = TLS(ours())
    running.server.access = replace(running.server.access, proxies=(ipaddress.ip_network("127.0.0.1"),))
    with connect(running.address) as plain:
        plain.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1060\r\n")
        with theirs().wrap_socket(plain, server_hostname="localhost") as peer:
            peer.sendall(SENT)
            hear(peer, b"220\n" + HEARD.replace(b"clear", b"secure"))


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_framing_changes_over_a_unix_socket(engine: str, within: Start, tmp_path: Path) -> None:
    running = within(engine, Pump.for_service(Post()), address=str(tmp_path / "post.sock"))
    with connect(running.address) as peer:
        peer.sendall(SENT)
        hear(peer, b"220\n" + HEARD)


# --- STARTTLS ---------------------------------------------------------------------------------------


@pytest.fixture(params=HERE)
def post(request: pytest.FixtureRequest, within: Start) -> Within:
    """A server with a certificate, under each engine in this process."""
    running = within(stream_server(request.param, StartTLSServer), Pump.for_service(Post()))
    assert isinstance(running.server, StartTLSServer)
    running.server.start_tls = TLS(ours())
    return running


def upgrade(peer: socket.socket) -> ssl.SSLSocket:
    peer.sendall(b"STARTTLS\r\n")
    hear(peer, b"220 go ahead\n")
    return theirs().wrap_socket(peer, server_hostname="localhost", suppress_ragged_eofs=False)


def test_tls_begins_on_a_connection_in_clear(post: Within) -> None:
    with connect(post.address) as plain:
        name = name_of(plain)
        hear(plain, b"220 tls\n")
        plain.sendall(b"HELO\r\n")
        hear(plain, b"HELO clear\n")
        with upgrade(plain) as peer:
            peer.sendall(SENT)
            assert hear_all(peer) == HEARD.replace(b"clear", b"secure")
            peer.unwrap().close()
    assert access_of(post, name) == ("finished", "9")


def test_bytes_in_clear_behind_the_command_end_the_connection(post: Within) -> None:
    with connect(post.address) as peer:
        name = name_of(peer)
        hear(peer, b"220 tls\n")
        peer.sendall(b"STARTTLS\r\nNOOP\r\n")
        assert hear_all(peer) in (b"", b"220 go ahead\n")  # if both arrive at once: nothing
    assert access_of(post, name) == ("malformed", "1")


def test_deadline_of_the_handshake_counts_from_the_reply(post: Within) -> None:
    post.server.limits = replace(post.server.limits, handshake_timeout=0.5)
    with connect(post.address) as peer:
        name = name_of(peer)
        hear(peer, b"220 tls\n")
        peer.sendall(b"HELO\r\nSTARTTLS\r\n")
        hear(peer, b"HELO clear\n220 go ahead\n")
        assert hear_all(peer) == b""
    assert access_of(post, name) == ("handshake", "2")


def test_push_during_the_handshake_is_encrypted(post: Within) -> None:
    service: Any = post.server.service
    with connect(post.address) as plain:
        hear(plain, b"220 tls\n")
        plain.sendall(b"STARTTLS\r\n")
        hear(plain, b"220 go ahead\n")
        (talking,) = service.peers
        talking.send(b"pushed")
        with theirs().wrap_socket(plain, server_hostname="localhost") as peer:
            hear(peer, b"pushed\n")
            talking.send(b"again")
            hear(peer, b"again\n")
            peer.sendall(b"HELO\r\n")
            hear(peer, b"HELO secure\n")


def test_tls_begins_behind_a_proxy(post: Within) -> None:
    post.server.access = replace(post.server.access, proxies=(ipaddress.ip_network("127.0.0.1"),))
    with connect(post.address) as plain:
        plain.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1060\r\n")
        hear(plain, b"220 tls\n")
        with upgrade(plain) as peer:
            peer.sendall(b"HELO\r\n")
            hear(peer, b"HELO secure\n")


CERTIFICATE = [f"tls.{key}={folder()}/server.{end}" for key, end in (("certificate", "pem"), ("key", "key"))]


@pytest.mark.parametrize("engine", ["threads", "forks", "loop"])
def test_daemon_with_a_certificate_begins_tls(engine: str, process: Callable[..., Process]) -> None:
    running = process("tests.serving.test_steps:Post", engine, *CERTIFICATE)
    with connect(running.address) as plain:
        hear(plain, b"220 tls\n")
        with upgrade(plain) as peer:
            peer.sendall(b"HELO\r\nQUIT\r\n")
            assert hear_all(peer) == b"HELO secure\n221\n"


# --- the programs of docs/writing-a-daemon.md -------------------------------------------------------


def program(name: str) -> str:
    """Return a program of the page; it has at most 20 lines."""
    (text,) = [step.text for step in steps(PAGE, {}) if isinstance(step, File) and step.path == name]
    assert text.count("\n") <= 20
    return text


def test_documented_program_that_changes_the_framing() -> None:
    names: dict[str, Any] = {}
    exec(program("checksum.py"), names)
    service: Service = names["Checksum"]()
    sent = b"3\nNi!5\nabcde%d\n" % (1 << 40)
    expected = b"send it\n7d13b968\nsend it\n8587d865\na size from 1 to 1000000 is expected\n"
    for size in range(1, len(sent) + 1):
        conversation = conversation_class(service)(service)
        output = conversation.open()
        for start in range(0, len(sent), size):
            output += conversation.receive(sent[start : start + size])
        assert (output, conversation.ending) == (expected, Ending.FINISHED)


def test_documented_program_that_begins_tls(tmp_path: Path, process: Callable[..., Process]) -> None:
    (tmp_path / "herald.py").write_text(program("herald.py"))
    running = process("herald:Herald", "threads", *CERTIFICATE)
    host, port = running.address
    with smtplib.SMTP(host, port, timeout=DEADLINE) as client:
        assert client.docmd("NOOP") == (530, b"STARTTLS first")
        assert client.starttls(context=theirs())[0] == 220
        assert client.docmd("NOOP") == (250, b"Blue")
        client.ehlo()
        assert not client.has_extn("starttls")
    if openssl := shutil.which("openssl"):
        command = [openssl, "s_client", "-starttls", "smtp", "-connect", f"{host}:{port}", "-quiet", "-ign_eof"]
        command += ["-CAfile", f"{folder()}/ca.pem", "-verify_return_error"]
        done = subprocess.run(command, input=b"NOOP\nQUIT\n", capture_output=True, timeout=DEADLINE, check=True)
        assert done.stdout.endswith(b"250 Blue\r\n221 farewell\r\n")
