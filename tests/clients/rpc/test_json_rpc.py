"""``daemons call`` by JSON-RPC: daemons of this suite, a foreign server, and invalid responses."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from jsonrpclib.SimpleJSONRPCServer import SimpleJSONRPCServer

from daemons import rpcmath
from daemons.cli.command import main
from daemons.clients.rpc.json_rpc import JSONCaller
from daemons.clients.rpc.rpc import Endpoint, ProtocolError, RemoteFault
from daemons.rpc.json.service import JSONRPC
from daemons.serving.listening.address import Address
from daemons.serving.pump import Pump
from tests.operating.conftest import folder  # noqa: F401
from tests.operating.folder import Folder
from tests.serving.conftest import within  # noqa: F401
from tests.serving.running import Within

Printed = pytest.CaptureFixture[str]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


@contextmanager
def book_server() -> Iterator[str]:
    """The URL of a running jsonrpclib server, a copy of that of the book."""

    def lengths(*args: Any) -> list[Any]:
        """Measure the length of each input argument."""
        results = []
        for arg in args:
            try:
                arglen = len(arg)
            except TypeError:
                arglen = None
            results.append((arglen, arg))
        return results

    server = SimpleJSONRPCServer(("127.0.0.1", 0), logRequests=False)
    server.register_function(lengths)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_jsonrpclib_server_is_called(capsys: Printed) -> None:
    with book_server() as url:
        values = ["[1, 2, 3]", "27", '{"Sirius": -1.46, "Rigel": 0.12}']
        assert main(["call", url, "--json", "lengths", *values]) == 0
        out = capsys.readouterr().out
        assert json.loads(out) == [[3, [1, 2, 3]], [None, 27], [2, {"Sirius": -1.46, "Rigel": 0.12}]]
        assert main(["call", url, "--json", "--list"]) == 3
        out, error = capsys.readouterr()
        assert (out, "fault -32601" in error) == ("", True)


@pytest.mark.parametrize("framing", ["http", "lines"])
def test_daemon_of_the_project_is_called_by_name(
    framing: str,
    within: Callable[..., Within],  # noqa: F811
    folder: Folder,  # noqa: F811
    capsys: Printed,
) -> None:
    kind = JSONRPC.of(rpcmath, "x")
    running = within("loop", Pump.for_service(kind(kind.Options(framing=framing))))
    text = f"[daemon]\njsonrpc = daemons.rpcmath\nport = {running.address[1]}\n[jsonrpc]\nframing = {framing}\n"
    folder.write("x", text)
    batch = folder.path / "calls"
    batch.write_text("addtogether 1 2\nquadratic 0 0 0\nremote_repr text\n")

    def call(*words: str) -> int:
        return main(["call", "x", "--conf", str(folder.conf), *words])

    assert call("quadratic", "2", "0", "-8") == 0
    assert call("quadratic", "1", "2", "5") == 3
    assert call("quadratic", "x", "2", "5") == 3
    assert call("--batch", str(batch)) == 3
    out, error = capsys.readouterr()
    assert out == "[-2.0, 2.0]\n3\n'text'\n"
    assert error.splitlines() == [
        'x: fault 1: math domain error: {"exception":"ValueError"}',
        "x: fault -32602: Invalid params: a: number is expected",
        f'x: {batch}, line 2: fault 1: a is 0, so the equation is not quadratic: {{"exception":"ValueError"}}',
    ]
    assert call("--list") == 0
    out = capsys.readouterr().out
    assert "quadratic(a: number, b: number, c: number) -> array\n   Determine x" in out
    assert "addtogether(*things)\n" in out


def test_missing_method_and_wrong_protocol_have_different_exit_codes(
    within: Callable[..., Within],  # noqa: F811
    capsys: Printed,
) -> None:
    kind = JSONRPC.of(rpcmath, "x")
    lines = within("loop", Pump.for_service(kind(kind.Options(framing="lines"))))
    elsewhere = within("loop", Pump.for_service(kind(kind.Options(path="/elsewhere"))))
    assert main(["call", f"http://127.0.0.1:{closed_port()}/", "--json", "elements"]) == 1
    assert main(["call", f"http://127.0.0.1:{lines.address[1]}/", "--json", "elements"]) == 4
    assert main(["call", f"http://127.0.0.1:{elsewhere.address[1]}/", "--json", "elements"]) == 4
    assert "refused" in (error := capsys.readouterr().err)
    assert "does not speak HTTP" in error
    assert "404" in error


class FixedCaller(JSONCaller):
    """A client that receives the fixed response `answer`."""

    answer = b""

    def post(self, body: bytes, repeatable: bool) -> bytes:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"5",
        b'{"result":5,"id":0}',
        b'{"jsonrpc":"2.0","result":5}',
        b'{"jsonrpc":"2.0","result":5,"id":1}',
        b'{"jsonrpc":"2.0","error":{"code":"x","message":"y"},"id":0}',
        b'{"jsonrpc":"2.0","error":5,"id":0}',
        b"[" * 10**5,
    ],
)
def test_invalid_response_is_refused(answer: bytes) -> None:
    caller = FixedCaller(Endpoint(Address("tcp", "127.0.0.1", 1)))
    caller.answer = answer
    with pytest.raises(ProtocolError):
        caller.call("x", [])
    with pytest.raises(ProtocolError):
        caller.batch([("x", [])])
    with pytest.raises(ProtocolError):
        caller.list_methods()


def test_responses_of_a_batch_are_matched_by_id() -> None:
    caller = FixedCaller(Endpoint(Address("tcp", "127.0.0.1", 1)))
    caller.answer = b'[{"jsonrpc":"2.0","result":"b","id":1},{"jsonrpc":"2.0","result":"a","id":0}]'
    assert caller.batch([("x", []), ("y", [])]) == ["a", "b"]
    caller.answer = b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"},"id":null}'
    with pytest.raises(RemoteFault, match="fault -32600: no"):
        caller.batch([("x", [])])
    assert caller.batch([]) == []
    with pytest.raises(ValueError, match="cannot be encoded as JSON"):
        caller.call("x", [float("nan")])
