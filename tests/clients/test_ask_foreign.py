"""``daemons ask`` with foreign servers, well-behaved and misbehaving."""

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
    """Run ``daemons ask`` with the port of a foreign server; return the exit code."""
    return main(["ask", name, "--conf", str(project.conf), "-p", server.port, *words])


def test_each_question_is_sent_after_the_reply_to_the_previous_one(
    project: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    received: list[bytes] = []

    def visit(client: socket.socket) -> None:
        while question := until_delimiter(client, b"?"):
            received.append(question)
            for byte in b"Answer %d." % len(received):
                client.sendall(bytes((byte,)))

    with Foreign(visit) as server:
        assert ask(project, server) == 0
        assert received == [b"What is your name?", b"What is your quest?", b"What is your favorite color?"]
        assert capfd.readouterr() == ("Answer 1.\nAnswer 2.\nAnswer 3.\n", "")
        assert ask(project, server, "127.0.0.1", "Who?") == 0
        assert received[3:] == [b"Who?"]


class Chapter7(asyncio.Protocol):
    """The asyncio server of the book, chapter 7."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.question = b""

    def data_received(self, data: bytes) -> None:
        self.question += data
        while b"?" in self.question:
            question, _, self.question = self.question.partition(b"?")
            self.transport.write(question.rpartition(b" ")[2].capitalize() + b".")


def test_asyncio_server_is_supported(project: Folder, capfd: pytest.CaptureFixture[str]) -> None:
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


def test_replies_in_one_segment_are_separated(project: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    def visit(client: socket.socket) -> None:
        until_delimiter(client, b"?")
        client.sendall(b"One.Two.Thr")
        until_delimiter(client, b"?")
        until_delimiter(client, b"?")
        client.sendall(b"ee.")
        until_end(client)

    with Foreign(visit) as server:
        assert ask(project, server) == 0
    assert capfd.readouterr().out == "One.\nTwo.\nThree.\n"


def test_each_reply_is_printed_before_the_next_question_is_sent(
    project: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def visit(client: socket.socket) -> None:
        until_delimiter(client, b"?")
        client.sendall(b"First.")
        until_delimiter(client, b"?")  # sent after the first reply was printed
        seen.append(capfd.readouterr().out)
        client.sendall(b"Second.")
        until_end(client)

    with Foreign(visit) as server:
        assert ask(project, server, "-", "a?", "b?") == 0
    assert seen == ["First.\n"]


def test_raw_handler_receives_all_words_and_its_reply_is_read_to_the_end(
    project: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    def visit(client: socket.socket) -> None:
        client.sendall(b"welcome, ")
        client.sendall(until_end(client) + b"\n")

    with Foreign(visit) as server:
        assert ask(project, server, "-", "one ", "two", name="raw") == 0
    assert capfd.readouterr() == ("welcome, one two\n", "")


def _close_at_once(client: socket.socket) -> None:
    until_delimiter(client, b"?")


def _close_in_the_middle(client: socket.socket) -> None:
    until_delimiter(client, b"?")
    client.sendall(b"My name is")


def _reset(client: socket.socket) -> None:
    until_delimiter(client, b"?")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _flood(client: socket.socket) -> None:
    until_delimiter(client, b"?")
    client.sendall(b"x" * 5000)
    until_end(client)


@pytest.mark.parametrize(
    ("visit", "reason"),
    [
        (_close_at_once, "closed before it replied to b'What is your name?'"),
        (_close_in_the_middle, "closed before it replied to b'What is your name?'"),
        (_reset, "connection reset by peer"),
        (_flood, "no b'.' within 4096 bytes"),
    ],
)
def test_protocol_violation_of_the_server_is_one_line_of_error(
    project: Folder, capfd: pytest.CaptureFixture[str], visit: Visit, reason: str
) -> None:
    with Foreign(visit) as server:
        assert ask(project, server) == 1
        assert capfd.readouterr() == ("", f"launcelot: tcp://127.0.0.1:{server.port}: {reason}\n")


def test_replies_before_an_error_are_printed(project: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    def visit(client: socket.socket) -> None:
        until_delimiter(client, b"?")
        client.sendall(b"First.Sec")
        until_delimiter(client, b"?")

    with Foreign(visit) as server:
        assert ask(project, server, "-", "a?", "b?") == 1
        out, err = capfd.readouterr()
        assert out == "First.\n"
        assert err == f"launcelot: tcp://127.0.0.1:{server.port}: closed before it replied to b'b?'\n"


@pytest.mark.parametrize("name", ["launcelot", "raw"])
def test_server_without_a_reply_times_out(project: Folder, capfd: pytest.CaptureFixture[str], name: str) -> None:
    given_up = threading.Event()

    def visit(client: socket.socket) -> None:
        given_up.wait(20)

    with Foreign(visit) as server:
        before = time.monotonic()
        assert ask(project, server, "-t", "0.2", name=name) == 1
        assert 0.2 <= time.monotonic() - before < 5
        given_up.set()
        assert capfd.readouterr() == ("", f"{name}: tcp://127.0.0.1:{server.port}: timed out\n")


def test_closed_port_is_reported_as_refused(project: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert main(["ask", "launcelot", "--conf", str(project.conf), "-p", str(port)]) == 1
    assert capfd.readouterr() == ("", f"launcelot: tcp://127.0.0.1:{port}: connection refused\n")


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("-p", "70000"), 100, "-p 70000: not a port; write a number from 0 to 65535 or a name from /etc/services"),
        (("no-such-host.invalid",), 1, "tcp://no-such-host.invalid:1060: "),
        (("x" * 64 + ".example",), 1, f"tcp://{'x' * 64}.example:1060: "),
    ],
)
def test_invalid_address_is_reported(
    project: Folder, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, expected: str
) -> None:
    assert main(["ask", "launcelot", "--conf", str(project.conf), *words]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"launcelot: {expected}")
    assert err.count("\n") == 1


def test_error_in_the_ini_file_is_reported_before_connecting(
    project: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "lancelot", "--conf", str(project.conf)]) == 100
    assert capfd.readouterr().err == "lancelot: conf/lancelot.ini: no such file; did you mean launcelot?\n"
    project.write("launcelot", "[daemon]\nservice = nosuch\nport = 1\n")
    assert main(["ask", "launcelot", "--conf", str(project.conf)]) == 100
    assert "there is no module daemons.nosuch" in capfd.readouterr().err
