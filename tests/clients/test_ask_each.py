"""``daemons ask NAME`` for each of the small daemons, with the daemon itself and with foreign servers."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from daemons.cli.command import main
from daemons.clients.ask import PIECE, send_all
from daemons.clients.net.dial import NetworkError
from daemons.serving.listening.address import Address
from daemons.serving.pump import Pump
from tests.clients.foreign import Foreign, until_end
from tests.operating.folder import Folder
from tests.serving.running import Within
from tests.transcripts.transcripts import service_of

CONF = Path(__file__).parents[2] / "conf"

FLAT = b"Flat is better than nested."

#: The name of the daemon, the words, and the output.
CONVERSATIONS = {
    "sixteen": ((), "Farewell, client\n"),
    "sixteen hears no more than sixteen": (("Hi there, server!",), "Farewell, client\n"),
    "sixteen says nothing to fewer": (("short",), ""),
    "welcome": ((), "Thank you for connecting\n"),
    "echo": ((), "hello\n"),
    "echo, of several words": (("hello", "world"), "hello world\n"),
    "upper": ((), "CAPITALIZE THIS!\n"),
    "streamer": ((), ""),
    "twoway": ((), f"{FLAT.decode()}\n{hashlib.sha256(FLAT).hexdigest()}\n"),
    "lines": ((), "Sparse is better than dense.\nTwo lines\nin one message.\n"),
    "lines, with characters to be quoted": ((r"back\slash", "a\nb"), "back\\slash\na\nb\n"),
    "prefix": ((), "Readability counts.\n"),
    "prefix, of several messages, one of them empty": (("one", "", "three"), "one\n\nthree\n"),
    "blocks": ((), ""),
}


@pytest.fixture
def start_daemon() -> Iterator[Callable[[str], str]]:
    """Yield a function that runs the service in ``daemons.NAME`` and returns its port."""
    with ExitStack() as stack:

        def start(name: str) -> str:
            running = Within("threads", Pump.for_service(service_of(name)))
            stack.callback(running.close)
            return str(running.address[1])

        yield start


def ask(name: str, port: str, *words: str) -> int:
    """Run ``daemons ask`` with the shipped ini file and this port; return the exit code."""
    return main(["ask", name, "--conf", str(CONF), "-p", port, *(("-", *words) if words else ())])


@pytest.mark.parametrize("case", CONVERSATIONS)
def test_own_daemon_replies(case: str, start_daemon: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    words, printed = CONVERSATIONS[case]
    name = re.split(r"\W", case)[0]
    assert ask(name, start_daemon(name), *words) == 0
    assert capfd.readouterr() == (printed, "")


def test_daytime_reply_is_printed(start_daemon: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    assert ask("daytime", start_daemon("daytime")) == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?\n", capfd.readouterr().out)


ZEN = b"Beautiful is better than ugly.", b"Explicit is better than implicit.", b"Simple is better than complex."

#: The name of the daemon; the bytes its client sends to a foreign server; the server's reply; and the
#: client's output.
FOREIGN = {
    "sixteen": (b"Hi there, server", b"Farewell, client", "Farewell, client\n"),
    "welcome": (b"", b"Thank you for connecting", "Thank you for connecting\n"),
    "daytime": (b"", b"2012-12-12 12:12:12\n", "2012-12-12 12:12:12\n"),
    "echo": (b"hello", b"hello", "hello\n"),
    "upper": (b"capitalize this!", b"CAPITALIZE THIS!", "CAPITALIZE THIS!\n"),
    "streamer": (b"".join(line + b"\n" for line in ZEN), b"", ""),
    "twoway": (FLAT, b"and back", "and back\n"),
    "blocks": (b"".join(struct.pack("!I", len(block)) + block for block in (*ZEN, b"")), b"", ""),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_server_receives_framed_messages_and_its_reply_is_printed(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    sent, answer, printed = FOREIGN[name]
    received: list[bytes] = []

    def visit(client: socket.socket) -> None:
        received.append(until_end(client))
        client.sendall(answer)

    with Foreign(visit) as server:
        assert ask(name, server.port) == 0
    assert received == [sent]
    assert capfd.readouterr() == (printed, "")


@pytest.mark.parametrize(("name", "end"), [("lines", b"\n"), ("prefix", b".")])
def test_foreign_server_that_replies_to_each_message(name: str, end: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    def visit(client: socket.socket) -> None:
        with client.makefile("rwb", buffering=0) as file:
            while byte := file.read(1):
                file.write(byte)

    with Foreign(visit) as server:
        assert ask(name, server.port, "one two", "back\\slash") == 0
    assert capfd.readouterr() == ("one two\nback\\slash\n", "")


def test_missing_newline_is_appended_to_each_word(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.module(
        "shout", "import daemons\nclass Shout(daemons.Service):\n    framing = daemons.Until(b'\\n', limit=9)"
    )
    folder.write("shout", "[daemon]\nservice = shout:Shout\nport = 1090\n")
    received: list[bytes] = []
    with Foreign(lambda client: received.append(until_end(client))) as server:
        assert main(["ask", "shout", "--conf", str(folder.conf), "-p", server.port, "-", "one", "two\n"]) == 0
    assert received == [b"one\ntwo\n"]
    assert capfd.readouterr() == ("", "")


# --- large transfers ----------------------------------------------------------------------------------


def test_standard_input_is_sent_and_the_reply_printed_unchanged(
    start_daemon: Callable[[str], str], capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = start_daemon("upper")
    reader, writer = os.pipe()
    os.write(writer, b"a\x00\xffz")
    os.close(writer)
    kept = os.dup(0)
    os.dup2(reader, 0)
    try:
        assert main(["ask", "upper", "--conf", str(CONF), "-p", port, "--stdin"]) == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)
    assert capfdbinary.readouterr() == (b"A\x00\xffZ", b"")


def test_server_that_stops_reading_until_its_replies_are_read_causes_no_deadlock() -> None:
    """The server of the book's chapter 5, which deadlocks with a client that sends 20 MB before it reads (T13)."""
    much = 24 * 1024**2

    def visit(client: socket.socket) -> None:
        while data := client.recv(1024):
            client.sendall(data.upper())

    with Foreign(visit) as server:
        sent = partial(io.BytesIO(b"capitalize this!" * (much // 16)).read, PIECE)
        answer = send_all(Address("tcp", "127.0.0.1", int(server.port)), iter(sent, b""), 20.0)
        assert b"".join(answer) == b"CAPITALIZE THIS!" * (much // 16)


# --- failures ----------------------------------------------------------------------------------


def test_server_that_neither_reads_nor_replies_times_out(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address("tcp", "127.0.0.1", silent.getsockname()[1])
        with pytest.raises(NetworkError, match="timed out"):
            list(send_all(address, iter(lambda: bytes(PIECE), b""), 0.2))
