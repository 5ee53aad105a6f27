"""``daemons ask`` and servers that are not ours, well-behaved and not."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time

import pytest

from daemons.cli.command import main
from tests.clients.foreign import Foreign, Visit, until_delimiter, until_end
from tests.operating.folder import GOOD, Folder


@pytest.fixture
def project(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD)
    folder.write("raw", "[daemon]\nhandler = socketserver:StreamRequestHandler\nport = 1\n")
    return folder


def ask(project: Folder, server: Foreign, *words: str, name: str = "launcelot") -> int:
    """``daemons ask`` that server, at the port it happens to have."""
    return main(["ask", name, "--conf", str(project.conf), "-p", server.port, *words])


def test_each_question_is_asked_when_the_one_before_is_answered(
    project: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[bytes] = []

    def visit(visitor: socket.socket) -> None:
        while question := until_delimiter(visitor, b"?"):
            heard.append(question)
            for octet in b"Answer %d." % len(heard):
                visitor.sendall(bytes((octet,)))

    with Foreign(visit) as server:
        assert ask(project, server) == 0
        assert heard == [b"What is your name?", b"What is your quest?", b"What is your favorite color?"]
        assert capfd.readouterr() == ("Answer 1.\nAnswer 2.\nAnswer 3.\n", "")
        assert ask(project, server, "127.0.0.1", "Who?") == 0
        assert heard[3:] == [b"Who?"]


class Chapter7(asyncio.Protocol):
    """The asynchronous server of the book, which Twisted and asyncio write alike."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.question = b""

    def data_received(self, data: bytes) -> None:
        self.question += data
        while b"?" in self.question:
            question, _, self.question = self.question.partition(b"?")
            self.transport.write(question.rpartition(b" ")[2].capitalize() + b".")


def test_an_asynchronous_server_is_asked_like_any_other(project: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Chapter7, "127.0.0.1", 0))
    port = str(server.sockets[0].getsockname()[1])
    serving = threading.Thread(target=loop.run_forever)
    serving.start()
    try:
        assert main(["ask", "launcelot", "--conf", str(project.conf), "-p", port]) == 0
        assert capfd.readouterr() == ("Name.\nQuest.\nColor.\n", "")
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        serving.join()
        loop.run_until_complete(server.wait_closed())
        loop.close()


def test_answers_that_come_together_are_told_apart(project: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    def visit(visitor: socket.socket) -> None:
        until_delimiter(visitor, b"?")
        visitor.sendall(b"One.Two.Thr")
        until_delimiter(visitor, b"?")
        until_delimiter(visitor, b"?")
        visitor.sendall(b"ee.")
        until_end(visitor)

    with Foreign(visit) as server:
        assert ask(project, server) == 0
    assert capfd.readouterr().out == "One.\nTwo.\nThree.\n"


def test_an_answer_is_printed_as_soon_as_it_has_come(project: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def visit(visitor: socket.socket) -> None:
        until_delimiter(visitor, b"?")
        visitor.sendall(b"First.")
        until_delimiter(visitor, b"?")  # it is asked after the first answer was printed
        seen.append(capfd.readouterr().out)
        visitor.sendall(b"Second.")
        until_end(visitor)

    with Foreign(visit) as server:
        assert ask(project, server, "-", "a?", "b?") == 0
    assert seen == ["First.\n"]


def test_a_peer_of_a_raw_handler_hears_all_and_is_heard_to_its_end(
    project: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    def visit(visitor: socket.socket) -> None:
        visitor.sendall(b"welcome, ")
        visitor.sendall(until_end(visitor) + b"\n")

    with Foreign(visit) as server:
        assert ask(project, server, "-", "one ", "two", name="raw") == 0
    assert capfd.readouterr() == ("welcome, one two\n", "")


def _close_at_once(visitor: socket.socket) -> None:
    until_delimiter(visitor, b"?")


def _close_in_the_middle(visitor: socket.socket) -> None:
    until_delimiter(visitor, b"?")
    visitor.sendall(b"My name is")


def _reset(visitor: socket.socket) -> None:
    until_delimiter(visitor, b"?")
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _flood(visitor: socket.socket) -> None:
    until_delimiter(visitor, b"?")
    visitor.sendall(b"x" * 5000)
    until_end(visitor)


@pytest.mark.parametrize(
    ("visit", "reason"),
    [
        (_close_at_once, "closed before it had answered b'What is your name?'"),
        (_close_in_the_middle, "closed before it had answered b'What is your name?'"),
        (_reset, "connection reset by peer"),
        (_flood, "no b'.' within 4096 bytes"),
    ],
)
def test_a_peer_that_does_not_keep_to_the_protocol_is_told_in_one_line(
    project: Folder, capfd: pytest.CaptureFixture[str], visit: Visit, reason: str
) -> None:
    with Foreign(visit) as server:
        assert ask(project, server) == 1
        assert capfd.readouterr() == ("", f"launcelot: tcp://127.0.0.1:{server.port}: {reason}\n")


def test_the_answers_that_came_before_are_printed_all_the_same(
    project: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    def visit(visitor: socket.socket) -> None:
        until_delimiter(visitor, b"?")
        visitor.sendall(b"First.Sec")
        until_delimiter(visitor, b"?")

    with Foreign(visit) as server:
        assert ask(project, server, "-", "a?", "b?") == 1
        out, err = capfd.readouterr()
        assert out == "First.\n"
        assert err == f"launcelot: tcp://127.0.0.1:{server.port}: closed before it had answered b'b?'\n"


@pytest.mark.parametrize("name", ["launcelot", "raw"])
def test_a_peer_that_never_answers_is_given_up(project: Folder, capfd: pytest.CaptureFixture[str], name: str) -> None:
    given_up = threading.Event()

    def visit(visitor: socket.socket) -> None:
        given_up.wait(20)

    with Foreign(visit) as server:
        before = time.monotonic()
        assert ask(project, server, "-t", "0.2", name=name) == 1
        assert 0.2 <= time.monotonic() - before < 5
        given_up.set()
        assert capfd.readouterr() == ("", f"{name}: tcp://127.0.0.1:{server.port}: timed out\n")


def test_a_port_where_nobody_listens(project: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert main(["ask", "launcelot", "--conf", str(project.conf), "-p", str(port)]) == 1
    assert capfd.readouterr() == ("", f"launcelot: tcp://127.0.0.1:{port}: connection refused\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-p", "70000"), 100, "-p 70000: not a port; write a number from 0 to 65535 or a name from /etc/services"),
        (("no-such-host.invalid",), 1, "tcp://no-such-host.invalid:1060: "),
        (("x" * 64 + ".example",), 1, f"tcp://{'x' * 64}.example:1060: "),
    ],
)
def test_an_address_that_is_none(
    project: Folder, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert main(["ask", "launcelot", "--conf", str(project.conf), *words]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"launcelot: {said}")
    assert err.count("\n") == 1


def test_what_is_wrong_with_the_ini_is_told_before_anybody_is_dialled(
    project: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "lancelot", "--conf", str(project.conf)]) == 100
    assert capfd.readouterr().err == "lancelot: conf/lancelot.ini: no such file; did you mean launcelot?\n"
    project.write("launcelot", "[daemon]\nservice = nosuch\nport = 1\n")
    assert main(["ask", "launcelot", "--conf", str(project.conf)]) == 100
    assert "there is no module daemons.nosuch" in capfd.readouterr().err
