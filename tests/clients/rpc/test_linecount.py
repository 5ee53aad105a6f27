"""RPyC: counting the lines of a client's file, and protection of each side against the other."""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from socketserver import BaseRequestHandler
from typing import Any

import pytest
import rpyc
from rpyc.core import consts
from rpyc.core.stream import SocketStream

from daemons import linecount
from daemons.cli.command import main
from daemons.linecount import LineCount
from daemons.rpc.rpyc import netrefs
from daemons.rpc.rpyc.frames import Frames
from daemons.rpc.rpyc.handler import NetrefHandler
from daemons.serving.guards.limits import Limits
from tests.serving.conftest import within  # noqa: F401
from tests.serving.peers import connect, hear_all, name_of
from tests.serving.running import Within, access_of


class Secretive(rpyc.Service):  # type: ignore[misc]
    """A service with a bug."""

    def exposed_line_counter(self, fileobj: Any, function: Any) -> int:
        raise LookupError("a secret of the service")


class Buggy(NetrefHandler):
    offers = Secretive


class BookService(rpyc.Service):  # type: ignore[misc]
    """A copy of the server of the book that first tries to reach other objects of the client."""

    def exposed_line_counter(self, fileobj: Any, function: Any) -> int:
        for thing, name in [(fileobj, "name"), (fileobj, "_file"), (fileobj, "buffer"), (function, "__globals__")]:
            with pytest.raises(AttributeError):
                getattr(thing, name)
        for linenum, line in enumerate(fileobj.readlines()):  # noqa: B007
            function(line)
        return linenum + 1


class Odd:
    """An iterable that is not a file."""

    def __iter__(self) -> Any:
        return 5


class Book(BaseRequestHandler):
    """Runs the server of the book by RPyC itself."""

    def handle(self) -> None:
        conn = BookService()._connect(rpyc.Channel(SocketStream(self.request.dup())))
        conn.serve_all()


@pytest.fixture
def visit(within: Callable[..., Within]) -> Iterator[Callable[..., Any]]:  # noqa: F811
    """An RPyC client, configured as in the book, connected to a daemon in this process."""
    conns = []

    def start(engine: str = "threads", handler: Any = LineCount) -> Any:
        running = within(engine, handler)
        conn = rpyc.connect(*running.address, config={"allow_public_attrs": True})
        conns.append(conn)
        conn.running = running
        return conn

    yield start
    for conn in conns:
        with suppress(OSError):  # a refused connection may be closed already
            conn.close()


@pytest.mark.parametrize("engine", ["threads", "pool"])
def test_standard_rpyc_client_is_called_back_with_each_line(
    engine: str, visit: Callable[..., Any], tmp_path: Path
) -> None:
    proxy = visit(engine)
    received: list[str] = []
    for count in (5, 0):  # also with an empty file
        path = tmp_path / f"{count}.txt"
        path.write_text("".join(f"line {number}\n" for number in range(count)))
        with open(path) as fileobj:
            assert proxy.root.line_counter(fileobj, received.append) == count
    assert received == [f"line {number}\n" for number in range(5)]


def test_each_line_is_two_round_trips(visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []
    recv = Frames.recv

    def counted(self: Frames) -> bytes:
        taken.append(recv(self))
        return taken[-1]

    monkeypatch.setattr(Frames, "recv", counted)
    counter = visit().root.line_counter
    needed = []
    for lines in (["a"] * 10, ["a"] * 110):
        taken.clear()
        counter(lines, len)
        needed.append(len(taken))
    # One reply has the line, and one acknowledges the callback.
    assert needed[1] - needed[0] >= 190


@pytest.mark.parametrize(
    ("handler", "args"),
    [
        *(
            (consts.HANDLE_GETATTR, (name,))
            for name in ["__class__", "_counting", "_conn", "on_connect", b"__init__", 5]
        ),
        (consts.HANDLE_CALLATTR, ("__init__", ())),
        *((number, ()) for number in (consts.HANDLE_REPR, consts.HANDLE_STR, consts.HANDLE_HASH, consts.HANDLE_DIR)),
        (consts.HANDLE_CMP, ("x", "__eq__")),
        (consts.HANDLE_PICKLE, (2,)),
        (consts.HANDLE_SETATTR, ("exposed_x", 5)),
        (consts.HANDLE_DELATTR, ("exposed_line_counter",)),
        (consts.HANDLE_BUFFITER, (10**9,)),
        (consts.HANDLE_CTXEXIT, (None,)),
        (consts.HANDLE_CALL, ((), ())),
        (77, ()),
    ],
)
def test_attributes_that_are_not_exposed_are_refused(
    handler: int, args: tuple[Any, ...], visit: Callable[..., Any]
) -> None:
    conn = visit()
    with pytest.raises((AttributeError, ValueError), match=r"exposed|expected|done here|cannot be read"):
        conn.sync_request(handler, conn.root, *args)
    for by_value in ("text", 10**6, (1, 2)):
        with pytest.raises((AttributeError, ValueError)):
            conn.sync_request(consts.HANDLE_CALLATTR, by_value, "__mul__", (10**10,))
    assert conn.root.line_counter(["a"], len) == 1
    assert not [line for line in conn.running.lines if "Traceback" in line]


def test_wrong_arguments_are_refused_with_the_expectation(visit: Callable[..., Any]) -> None:
    counter = visit().root.line_counter
    with pytest.raises(AttributeError, match="no such exposed attribute"):
        counter.__func__  # noqa: B018
    with pytest.raises(ValueError, match=r"line_counter\(fileobj.*is expected"):
        counter()
    with pytest.raises(ValueError, match="a file object and a function"):
        counter("by value", len)
    with pytest.raises(ValueError, match="line 1 is neither text nor bytes"):
        counter([5], len)
    with pytest.raises(ValueError, match="is not iterable"):
        counter(Odd(), len)
    with pytest.raises(ValueError, match="another file is being counted on this connection"):
        counter(["a"], lambda line: counter([line], len))
    with pytest.raises(ZeroDivisionError):  # the client's own exception is returned unchanged
        counter(["a"], lambda line: 1 / 0)


def test_number_of_objects_per_connection_is_limited(
    visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netrefs, "MAX_EXPORTED", 10)
    root = visit().root
    with pytest.raises(ValueError, match="10 objects are referenced"):
        assert [root.line_counter for _ in range(11)] == []
    assert root.line_counter(["a"], len) == 1


def test_client_that_closes_during_a_call_is_released(within: Callable[..., Within]) -> None:  # noqa: F811
    running = within("threads", LineCount)
    conn = rpyc.connect(*running.address)
    name = name_of(conn._channel.stream.sock)
    with pytest.raises(EOFError):
        conn.root.line_counter(["a", "b"], lambda line: conn.close())
    assert access_of(running, name) == ("finished", "-")
    assert not [line for line in running.lines if "Traceback" in line]


def test_endless_file_is_refused(visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linecount, "MOST", 10)
    with pytest.raises(ValueError, match="more than 10 lines"):
        visit().root.line_counter(repeat("a"), len)


@pytest.mark.parametrize("line", ["a" * 66_000, "a" * 10**7], ids=["long", "packed"])
def test_overlong_line_is_refused_before_it_is_buffered(line: str, visit: Callable[..., Any]) -> None:
    conn = visit()
    compressed = len(line) > 10**6
    conn._channel.compress = compressed
    assert (len(zlib.compress(line.encode(), 1)) < 65_536) is True
    with pytest.raises((ValueError, EOFError), match="65536"):
        conn.root.line_counter([line], len)
    conn.running.log_line("65536")


def test_bug_sends_an_id_to_the_peer_and_logs_the_traceback(visit: Callable[..., Any]) -> None:
    conn = visit(handler=Buggy)
    with pytest.raises(RuntimeError) as raised:
        conn.root.line_counter(["a"], len)
    assert "secret" not in str(raised.value)
    number = re.search(r"error (\w{8})", str(raised.value))
    assert number is not None
    assert "a secret of the service" in conn.running.log_line(f"error {number[1]}")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 20,
        b"GET / HTTP/1.0\r\n\r\n",
        b"\0\0\0\3\1abc\n",
        b"\0\0\0\1\0\1\n",
        b"\0\0\0\5\0\1" + b"\x10" * 4 + b"\n",
        b"\0\0\4\0\0\2" + b"\x10" * 1023 + b"\n",
        b"\0\0\0\7\0\1\x17\xff\xff\xff\xff\0\n",
    ],
    ids=["bytes", "http", "not packed", "empty", "short", "nested", "many"],
)
def test_malformed_rpyc_is_one_line_in_the_log(data: bytes, within: Callable[..., Within]) -> None:  # noqa: F811
    running = within("threads", LineCount)
    with connect(running.address) as peer:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        hear_all(peer)
        assert access_of(running, name_of(peer)) == ("finished", "-")
    assert not [line for line in running.lines if "Traceback" in line]


def test_client_that_does_not_reply_to_a_callback_is_closed(within: Callable[..., Within]) -> None:  # noqa: F811
    running = within("threads", LineCount, Limits(idle_timeout=1.0))
    with connect(running.address) as peer:
        conn = rpyc.VoidService()._connect(rpyc.Channel(SocketStream(peer)))
        conn._async_request(consts.HANDLE_CALLATTR, (conn.root, "line_counter", (["a"], len)))
        name = name_of(peer)
        assert access_of(running, name) == ("idle", "-")
        conn.close()


@pytest.mark.parametrize("handler", [LineCount, Book], ids=lambda kind: kind.__name__)
def test_client_exposes_only_the_lines_to_the_server(
    handler: Any,
    within: Callable[..., Within],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = within("threads", handler)
    path = tmp_path / "testfile.txt"
    path.write_text("one\ntwo\n")
    assert main(["linecount", str(path), f"127.0.0.1:{running.address[1]}"]) == 0
    assert capsys.readouterr().out == "Noisy: 'one\\n'\nNoisy: 'two\\n'\nThe number of lines in the file was 2\n"


def test_client_reports_each_error_in_one_line(
    within: Callable[..., Within],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = f"127.0.0.1:{within('threads', Buggy).address[1]}"
    assert main(["linecount", str(tmp_path / "nothing"), where]) == 1
    path = tmp_path / "testfile.txt"
    path.write_text("one\n")
    assert main(["linecount", str(path), where]) == 1
    assert main(["linecount", str(path), "127.0.0.1:1"]) == 1
    error = capsys.readouterr().err
    assert re.search(r"no such file.*\n.*raised RuntimeError: error \w{8}\n.*refused\n", error), error


def test_client_refuses_an_endless_line(
    within: Callable[..., Within],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = f"127.0.0.1:{within('threads', LineCount).address[1]}"
    assert main(["linecount", "/dev/zero", where]) == 1
    assert capsys.readouterr() == ("", "daemons linecount: line 1 of the file has more than 1048576 characters\n")
