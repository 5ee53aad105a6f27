"""RPyC: messages with netrefs or values of a wrong type."""

from __future__ import annotations

import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import rpyc
from rpyc.core import brine, consts

from daemons.cli.command import main
from daemons.linecount import LineCount
from daemons.rpc.rpyc import netrefs
from daemons.rpc.rpyc.handler import NetrefHandler
from tests.serving.conftest import within  # noqa: F401
from tests.serving.running import Within

VALUE, TUPLE, LOCAL, REMOTE = (
    consts.LABEL_VALUE,
    consts.LABEL_TUPLE,
    consts.LABEL_LOCAL_REF,
    consts.LABEL_REMOTE_REF,
)


def netref(number: int = 1) -> tuple[int, Any]:
    """Return a boxed object of the peer."""
    return REMOTE, ("builtins.list", 1, number)


def boxed(*items: Any) -> tuple[int, Any]:
    return TUPLE, items


def frame(message: int, seq: Any, content: Any) -> bytes:
    data: bytes = bytes([message]) + brine.dump((seq, content))
    return struct.pack("!LB", len(data), 0) + data + b"\n"


class RawPeer:
    """The other end of a connection, with access to single messages."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.settimeout(20)
        self._file = sock.makefile("rb")

    def send(self, message: int, seq: Any, content: Any) -> None:
        self._socket.sendall(frame(message, seq, content))

    def receive(self) -> tuple[int, Any, Any]:
        """Return the next message other than the release of an object.  Raises `EOFError`."""
        while True:
            header = self._file.read(5)
            if len(header) < 5:
                raise EOFError
            length, packed = struct.unpack("!LB", header)
            data = self._file.read(length + 1)[:-1]
            data = zlib.decompress(data) if packed else data
            seq, content = brine.load(data[1:])
            if data[0] != consts.MSG_REQUEST or content[0] != consts.HANDLE_DEL:
                return data[0], seq, content

    def ask(self, handler: Any, args: Any) -> tuple[int, Any]:
        """Send a request.  Returns the next message: its answer, or a request of the other side."""
        self.send(consts.MSG_REQUEST, 7, (handler, args))
        message, _, content = self.receive()
        return message, content

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def peer(within: Callable[..., Within]) -> Iterator[RawPeer]:  # noqa: F811
    running = within("threads", LineCount)
    with closing(RawPeer(socket.create_connection(("127.0.0.1", running.address[1])))) as raw:
        yield raw
    assert not [line for line in running.lines if "Traceback" in line]


def root_of(peer: RawPeer) -> tuple[int, Any]:
    """Return the root of the other side, boxed as a local object."""
    _, (label, id_pack) = peer.ask(consts.HANDLE_GETROOT, boxed())
    assert label == REMOTE
    return LOCAL, id_pack


NAME = VALUE, "line_counter"
POSING: list[tuple[int, Any]] = [
    # Replacements of the arguments, and of their parts.
    (consts.HANDLE_PING, netref()),
    (consts.HANDLE_PING, (VALUE, "text")),
    (consts.HANDLE_PING, (VALUE, 5)),
    (consts.HANDLE_PING, (TUPLE, "text")),
    (consts.HANDLE_PING, (TUPLE, b"octets")),
    (consts.HANDLE_PING, (TUPLE, 5)),
    (consts.HANDLE_PING, boxed("text")),
    (consts.HANDLE_PING, boxed((VALUE, 1, 2))),
    (consts.HANDLE_PING, boxed((True, 1))),
    (consts.HANDLE_PING, boxed((1.0, 1))),
    (consts.HANDLE_PING, boxed(("1", 1))),
    (consts.HANDLE_PING, boxed((9, 1))),
    (consts.HANDLE_PING, boxed((VALUE, 1), (VALUE, 2))),
    (consts.HANDLE_PING, 5),
    # In place of the name of an object.
    *((consts.HANDLE_PING, boxed((label, value))) for label in (LOCAL, REMOTE) for value in ("abc", (1, 2, 3), (), 5)),
    (consts.HANDLE_PING, boxed((REMOTE, ("a", 2**64, 1)))),
    (consts.HANDLE_PING, boxed((REMOTE, ("a", True, 1)))),
    (consts.HANDLE_PING, boxed((REMOTE, ("a", -1, 1)))),
    (consts.HANDLE_PING, boxed((LOCAL, ("a", 1, 1)))),
    (consts.HANDLE_INSPECT, boxed(netref())),
    (consts.HANDLE_INSPECT, boxed(boxed((VALUE, "a"), netref(), (VALUE, 1)))),
    (consts.HANDLE_INSPECT, boxed((VALUE, ("a", 1, 1)))),
    # Replacements of the requests' parameters; "root" stands for the root.
    (consts.HANDLE_GETATTR, boxed("root", netref())),
    (consts.HANDLE_GETATTR, boxed(netref(), NAME)),
    (consts.HANDLE_CALL, boxed(netref(), boxed())),
    (consts.HANDLE_CALL, boxed("root", boxed())),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, netref())),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, (VALUE, "ab"))),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, (VALUE, b"ab"))),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, boxed(), netref())),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, boxed(), boxed(netref()))),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, boxed(), boxed(boxed(netref(), netref(2))))),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, boxed(), (VALUE, ("ab", "cd")))),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, boxed(), (VALUE, "ab"))),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, boxed(netref(), (VALUE, 5)))),
    (consts.HANDLE_CALLATTR, boxed("root", NAME, boxed(boxed(netref()), netref(2)))),
    (consts.HANDLE_DEL, boxed(netref())),
    (consts.HANDLE_DEL, boxed("root", netref())),
    (consts.HANDLE_DEL, boxed("root", (VALUE, -1))),
    (consts.HANDLE_DEL, boxed("root", (VALUE, True))),
]


@pytest.mark.parametrize(("handler", "args"), POSING, ids=range(len(POSING)))
def test_value_of_another_type_is_refused_and_never_asked_for_anything(handler: int, args: Any, peer: RawPeer) -> None:
    root = root_of(peer)
    if isinstance(args, tuple) and isinstance(args[1], tuple):
        args = args[0], tuple(root if item == "root" else item for item in args[1])
    message, content = peer.ask(handler, args)
    assert message == consts.MSG_EXCEPTION, content
    assert content[0][1] in ("ValueError", "AttributeError")
    assert peer.ask(consts.HANDLE_PING, boxed((VALUE, "still there"))) == (consts.MSG_REPLY, (VALUE, "still there"))


def test_request_that_is_no_pair_is_refused(peer: RawPeer) -> None:
    for content in ("ab", b"ab", (1, 2, 3), 5, None, (True, boxed()), (netref(), boxed())):
        peer.send(consts.MSG_REQUEST, 1, content)
        assert peer.receive()[0] == consts.MSG_EXCEPTION


@pytest.mark.parametrize("seq", ["a", (1, 2), None, 1.0, True])
def test_number_of_another_type_ends_the_connection(seq: Any, peer: RawPeer) -> None:
    peer.send(consts.MSG_REQUEST, seq, (consts.HANDLE_GETROOT, boxed()))
    with pytest.raises(EOFError):
        peer.receive()


@pytest.mark.parametrize("message", [consts.MSG_REPLY, consts.MSG_EXCEPTION])
def test_answer_to_no_request_is_ignored(message: int, peer: RawPeer) -> None:
    for content in (netref(), boxed(netref(), netref(2))) if message == consts.MSG_REPLY else (5, ("a",), None):
        peer.send(message, 10**6, content)
    assert peer.ask(consts.HANDLE_PING, boxed((VALUE, 1))) == (consts.MSG_REPLY, (VALUE, 1))


def test_number_of_netrefs_in_use_is_limited(peer: RawPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netrefs, "MAX_IMPORTED", 10)
    many = boxed(*map(netref, range(11)))
    assert peer.ask(consts.HANDLE_PING, boxed(many))[0] == consts.MSG_EXCEPTION
    few = boxed(*map(netref, range(10)))
    message, (label, items) = peer.ask(consts.HANDLE_PING, boxed(few))
    assert (message, label, len(items)) == (consts.MSG_REPLY, TUPLE, 10)


class Nesting(rpyc.Service):  # type: ignore[misc]
    """Call the argument."""

    def exposed_do(self, function: Any) -> Any:
        return function()


class NestingHandler(NetrefHandler):
    offers = Nesting


def test_number_of_requests_within_each_other_is_limited(
    within: Callable[..., Within],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(netrefs, "MAX_NESTED", 5)
    running = within("threads", NestingHandler)
    with closing(rpyc.connect("127.0.0.1", running.address[1])) as conn:
        do = conn.root.do

        def deeper(levels: int) -> int:
            return levels if levels == 0 else 1 + int(do(lambda: deeper(levels - 1)))

        assert deeper(5) == 5
        with pytest.raises(ValueError, match="more than 5 nested requests"):
            deeper(6)
        assert deeper(5) == 5


def test_compressed_message_that_is_cut_short_is_refused(peer: RawPeer) -> None:
    data = bytes([consts.MSG_REQUEST]) + brine.dump((1, (consts.HANDLE_PING, boxed((VALUE, "a" * 1000)))))
    packed = zlib.compress(data)
    for cut in (packed[:-1], packed[:-5], packed + b"a"):
        with closing(RawPeer(socket.create_connection(peer._socket.getpeername()))) as other:
            other._socket.sendall(struct.pack("!LB", len(cut), 1) + cut + b"\n")
            with pytest.raises(EOFError):
                other.receive()


def test_compressed_message_has_values_in_proportion_to_its_size(peer: RawPeer) -> None:
    def exchange(*values: Any) -> int:
        data = bytes([consts.MSG_REQUEST]) + brine.dump((1, (consts.HANDLE_PING, boxed((VALUE, values)))))
        packed = zlib.compress(data)
        with closing(RawPeer(socket.create_connection(peer._socket.getpeername()))) as other:
            other._socket.sendall(struct.pack("!LB", len(packed), 1) + packed + b"\n")
            return other.receive()[0]

    assert exchange(*range(200)) == consts.MSG_REPLY
    assert exchange("a line of text\n" * 1000) == consts.MSG_REPLY
    with pytest.raises(EOFError):
        exchange(*(1,) * 900)


ANSWERS: list[tuple[list[tuple[int, Any]], str]] = [
    ([(consts.MSG_REPLY, (VALUE, 5))], "a number is expected"),
    ([(consts.MSG_REPLY, (VALUE, "text"))], "a number is expected"),
    ([(consts.MSG_REPLY, netref()), (consts.MSG_REPLY, (VALUE, 5))], "a number is expected"),
    *(
        (
            [(consts.MSG_REPLY, netref()), (consts.MSG_REPLY, netref(2)), (consts.MSG_REPLY, found)],
            "a number is expected",
        )
        for found in (netref(3), boxed(netref(3)), (VALUE, True), (VALUE, "2"), (VALUE, None))
    ),
    *(([(consts.MSG_REPLY, netref())] * n + [(consts.MSG_EXCEPTION, 1)], "a number is expected") for n in range(3)),
    ([(consts.MSG_EXCEPTION, ("a", 5))], "malformed exception"),
    ([(consts.MSG_EXCEPTION, (("builtins", "X"), ((1, ("a",)),), (), ""))], "X: (1, ('a',))"),
]


@pytest.mark.parametrize(("answers", "reason"), ANSWERS, ids=range(len(ANSWERS)))
def test_client_reports_an_odd_answer_in_one_line(
    answers: list[tuple[int, Any]], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "testfile.txt"
    path.write_text("one\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(20)

        def serve() -> None:
            with closing(RawPeer(listener.accept()[0])) as raw:
                for message, content in answers:
                    _, seq, _ = raw.receive()
                    raw.send(message, seq, content)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert main(["linecount", str(path), f"127.0.0.1:{listener.getsockname()[1]}"]) == 1
        finally:
            thread.join()
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert reason in error
