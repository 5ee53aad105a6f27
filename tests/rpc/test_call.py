"""``daemons call``, and what it is made of: results, faults, what is no answer, and the network that failed."""

from __future__ import annotations

import socket
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from daemons.clients.dial import NetworkError
from daemons.clients.rpc import Place, ProtocolError, RemoteFault
from daemons.clients.rpc_xml import XMLCaller
from daemons.operating.command import main
from tests.operating.conftest import _as_found, folder
from tests.operating.folder import Folder
from tests.rpc.knights import running

__all__ = ["_as_found", "folder"]


@pytest.fixture
def url() -> Iterator[str]:
    with running() as there:
        yield f"http://127.0.0.1:{there.address[1]}/"


def call(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["call", *words])
    return (code, *capfd.readouterr())


@pytest.mark.parametrize(
    ("words", "code", "printed", "said"),
    [
        (("same", "3"), 0, "3\n", ""),
        (("same", "-3"), 0, "-3\n", ""),
        (("-t", "5", "same", "-3"), 0, "-3\n", ""),
        (("same", "three"), 0, "three\n", ""),
        (("same", '"3"'), 0, "3\n", ""),
        (("same", "NaN"), 0, "NaN\n", ""),
        (("same", '{"a": [1, null, "ÿ"]}'), 0, '{"a": [1, null, "ÿ"]}\n', ""),
        (("same", "a\x9bb\nc"), 0, "a\\x9bb\nc\n", ""),
        (("say", "no\x9b"), 3, "", "{url}: fault 1: <class 'ValueError'>:no\\x9b\n"),
        (("say", "no\x1b"), 2, "", "{url}: say: cannot marshal the character U+001B; send bytes\n"),
        (("none",), 3, "", "{url}: fault 1: <class 'Exception'>:method \"none\" is not supported\n"),
        (("same", "2147483648"), 2, "", "{url}: same: int exceeds XML-RPC limits, which are those of 32 bits\n"),
        ((), 2, "", "{url}: write METHOD VALUES, --list or --batch FILE; one of them\n"),
        (("--list", "same"), 2, "", "{url}: write METHOD VALUES, --list or --batch FILE; one of them\n"),
        (
            ("--user", "robin", "same", "1"),
            2,
            "",
            "{url}: --user robin: the secret is missing; put it into $DAEMONS_SECRET\n",
        ),
        (
            ("--list",),
            0,
            "Here are the functions supported by this server:\ncount(['int'])\nsame(...)\n   Gives it back.\n"
            "say(['string', 'string'])\n",
            "",
        ),
    ],
)
def test_call(
    url: str, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, printed: str, said: str
) -> None:
    assert call(capfd, url, *words) == (code, printed, said.format(url=url))


def test_a_batch(url: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    batch = tmp_path / "calls"
    batch.write_text("same 1\n# a note\nsay 'no, no'\n\nsame \"two words\"\n")
    said = f"{url}: {batch}, line 3: fault 1: <class 'ValueError'>:no, no\n"
    assert call(capfd, url, "--batch", str(batch)) == (3, "1\ntwo words\n", said)
    batch.write_text("same 'one\n")
    assert call(capfd, url, "--batch", str(batch)) == (2, "", f"{url}: {batch}, line 1: no closing quotation\n")
    said = f"{url}: --batch {batch}s: No such file or directory\n"
    assert call(capfd, url, "--batch", f"{batch}s") == (2, "", said)


def test_a_daemon_of_ours_is_called_by_its_name(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    with running(path=("/knights",)) as there:
        folder.module("mine", "from tests.rpc.knights import Knights\nknights = Knights()\n")
        ini = "[daemon]\nrpc = mine:knights\nport = {}\n[rpc]\npath = /knights\n"
        folder.write("knights", ini.format(there.address[1]))
        folder.write("zen", "[daemon]\nservice = zen\nport = 0\n")
        conf = ("--conf", str(folder.conf))
        assert call(capfd, *conf, "knights", "same", "[1]") == (0, "[1]\n", "")
        code, _, said = call(capfd, *conf, "zen", "same")
        assert (code, said) == (
            100,
            "zen: conf/zen.ini: zen publishes no functions; there is no rpc = and no jsonrpc =\n",
        )
        folder.write("knights", "[daemon]\nrpc = mine:knights\nlisten = systemd:\n")
        assert call(capfd, *conf, "knights", "same", "1")[0] == 100


@pytest.mark.parametrize("where", ["ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/", "http://x/a b"])
def test_what_is_no_url(capfd: pytest.CaptureFixture[str], where: str) -> None:
    assert call(capfd, where, "same")[0] == 2


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Somebody who answers each visitor with the next of these, whatever he is asked."""
    asked: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            visitor, _ = listener.accept()
            with visitor:
                asked.append(visitor.recv(65536))
                visitor.sendall(answer)
                visitor.shutdown(socket.SHUT_WR)
                while visitor.recv(65536):
                    pass

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/", asked
        finally:
            thread.join()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


SAME = answer(xmlrpc.client.dumps((7,), methodresponse=True).encode())


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        (answer(b"", "500 Internal Server Error"), ProtocolError, "has answered 500 Internal Server Error"),
        (answer(b"<html>"), ProtocolError, "has answered with what is no XML-RPC"),
        (answer(b"<!DOCTYPE a>"), ProtocolError, "has answered with a document type declaration"),
        (answer(b"<?xml version='1.0' encoding='hz'?><a/>"), ProtocolError, "the encoding 'hz' is not accepted"),
        (answer("<!DOCTYPE a>".encode("utf-16")), ProtocolError, "has answered with a document type declaration"),
        (answer(b"<methodResponse><params/></methodResponse>"), ProtocolError, "has answered with what is no XML-RPC"),
        (b"SSH-2.0-x\r\n", ProtocolError, "does not speak HTTP"),
        (b"", NetworkError, "closed without an answer"),
        (SAME[:-5], NetworkError, "closed in the middle of the answer"),
    ],
)
def test_what_is_no_answer(said: bytes, kind: type[Exception], reason: str) -> None:
    with answering(said) as (where, _), pytest.raises(kind, match=reason):
        XMLCaller(Place.of(where)).call("same", [7])


def test_only_what_may_be_done_twice_is_tried_twice(no_pause: list[float]) -> None:
    with answering(b"", b"", SAME) as (where, asked):
        assert XMLCaller(Place.of(where), retries=2, idempotent=["same"]).call("same", [7]) == 7
        assert len(asked) == 3
    assert 0.05 <= no_pause[0] <= 0.1 <= no_pause[1] <= 0.2
    for methods in (["same"], ["same", "count"]):
        with answering(b"") as (where, asked), pytest.raises(NetworkError):
            XMLCaller(Place.of(where), retries=2, idempotent=["count"]).batch([(name, ()) for name in methods])
        assert len(asked) == 1
    with answering(SAME) as (where, _):
        pass_on = XMLCaller(Place.of(where), retries=2, all_idempotent=True)
        with pytest.raises(ProtocolError, match="has not answered 1 calls"):
            pass_on.batch([("same", ())])


def test_who_was_not_there_was_not_called_and_is_called_again(no_pause: list[float]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetworkError, match="connection refused"):
        XMLCaller(Place.of(f"http://127.0.0.1:{port}/"), retries=3).call("count", [])
    assert len(no_pause) == 3


def test_a_fault_is_not_tried_again(url: str, no_pause: list[float]) -> None:
    with pytest.raises(RemoteFault) as caught:
        XMLCaller(Place.of(url), retries=3, all_idempotent=True).call("say", ["no"])
    assert (caught.value.code, no_pause) == (1, [])


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made."""
    pauses: list[float] = []
    sleep: Callable[[float], None] = pauses.append
    monkeypatch.setattr("daemons.clients.rpc.sleep", sleep)
    return pauses
