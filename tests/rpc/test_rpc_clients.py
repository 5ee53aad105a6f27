"""Clients that are not ours, and our own, ``daemons call``."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from daemons import idempotent
from daemons.clients.dial import NetworkError
from daemons.clients.rpc import Place, ProtocolError, RemoteFault
from daemons.clients.rpc_xml import XMLCaller
from daemons.operating.command import main
from daemons.rpc.users import Users, line_for
from tests.operating.conftest import _as_found, folder
from tests.operating.folder import Folder
from tests.rpc.calling import server_for
from tests.serving.running import Within

__all__ = ["_as_found", "folder"]


class Knights:
    """What is published here.

    The rest of this is on the page."""

    def __init__(self) -> None:
        self.called = 0

    @idempotent
    def same(self, value: object) -> object:
        """Gives it back."""
        return value

    def say(self, text: str) -> str:
        raise ValueError(text)

    def count(self) -> int:
        self.called += 1
        return self.called


@contextmanager
def running(engine: str = "loop", **options: Any) -> Iterator[Any]:
    handler, kind = server_for(Knights(), engine=engine, **options)
    there = Within(kind, handler)
    try:
        yield there
    finally:
        there.close()


@pytest.fixture
def url() -> Iterator[str]:
    with running() as there:
        yield f"http://127.0.0.1:{there.address[1]}/"


VALUES = [{"a": [1, 2.5, "ÿ€", None, True]}, b"\0\xff", datetime(2026, 2, 28, 1, 2, 3), -(2**31), "", [], {}]


def test_the_standard_librarys_client(url: str) -> None:
    with xmlrpc.client.ServerProxy(url, allow_none=True, use_builtin_types=True) as there:
        assert there.same(VALUES) == VALUES
        with pytest.raises(xmlrpc.client.Fault) as caught:
            there.say("math domain error")
        assert str(caught.value) == "<Fault 1: \"<class 'ValueError'>:math domain error\">"
        calls = xmlrpc.client.MultiCall(there)
        calls.same(7)
        calls.say("no")
        calls.same("last")
        answers = calls()
        assert (answers[0], answers[2]) == (7, "last")
        with pytest.raises(xmlrpc.client.Fault):
            answers[1]


@pytest.mark.parametrize("engine", ["one", "threads", "forks", "pool"])
def test_every_engine_answers(engine: str) -> None:
    with running(engine) as there, xmlrpc.client.ServerProxy(f"http://127.0.0.1:{there.address[1]}/") as proxy:
        calls = xmlrpc.client.MultiCall(proxy)
        calls.same([1, "two"])
        calls.say("no")
        answers = calls()
        assert answers[0] == [1, "two"]
        with pytest.raises(xmlrpc.client.Fault, match="<class 'ValueError'>:no"):
            answers[1]
        assert [proxy.same(n) for n in range(3)] == [0, 1, 2]


def test_who_is_asked_for_a_secret_gives_it_in_the_url() -> None:
    secret, line = line_for("robin")
    name, salt, hashed = line.split(":")
    with running(users=Users({name: (salt, hashed)})) as there:
        where = f"127.0.0.1:{there.address[1]}/RPC2"
        with xmlrpc.client.ServerProxy(f"http://robin:{secret}@{where}") as known:
            assert known.same(1) == 1
        with (
            xmlrpc.client.ServerProxy(f"http://{where}") as unknown,
            pytest.raises(xmlrpc.client.ProtocolError) as caught,
        ):
            unknown.same(1)
        assert caught.value.errcode == 401
        assert XMLCaller(Place.of(f"http://robin:{secret}@{where}")).call("same", [1]) == 1


PERL = """
use strict; use RPC::XML; use RPC::XML::Client;
$RPC::XML::ENCODING = "utf-8";
my $there = RPC::XML::Client->new($ARGV[0]);
print $there->simple_request("same", "a<b>\\x{ff}") eq "a<b>\\x{ff}" ? "same\\n" : "other\\n";
print $there->send_request("same", {a => [1, 2.5]})->value->{a}->[1], "\\n";
my $fault = $there->send_request("say", "no");
print $fault->is_fault, " ", $fault->code, " ", $fault->string, "\\n";
my @calls = ({methodName => "same", params => [7]}, {methodName => "x", params => []});
my $both = $there->send_request("system.multicall", \\@calls);
print $both->value->[0]->[0], " ", $both->value->[1]->{faultCode}, "\\n";
"""


def test_curl_and_perl(url: str) -> None:
    if curl := shutil.which("curl"):
        three = "<params><param><value><int>3</int></value></param></params>"
        body = f"<methodCall><methodName>same</methodName>{three}</methodCall>"
        heard = subprocess.run(
            [curl, "-sS", "--max-time", "20", "-d", body, url], capture_output=True, check=True
        ).stdout
        assert xmlrpc.client.loads(heard) == ((3,), None)
    if (
        not (perl := shutil.which("perl"))
        or subprocess.run([perl, "-MRPC::XML::Client", "-e", "1"], capture_output=True, check=False).returncode
    ):
        pytest.skip("RPC::XML is missing; make engines installs librpc-xml-perl")
    done = subprocess.run([perl, "-e", PERL, url], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("same\n2.5\n1 1 <class 'ValueError'>:no\n7 1\n", "")


# --- our own -----------------------------------------------------------------------------------------


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
        folder.module("mine", "from tests.rpc.test_rpc_clients import Knights\nknights = Knights()\n")
        ini = "[daemon]\nrpc = mine:knights\nport = {}\n[rpc]\npath = /knights\n"
        folder.write("knights", ini.format(there.address[1]))
        folder.write("zen", "[daemon]\nservice = zen\nport = 0\n")
        conf = ("--conf", str(folder.conf))
        assert call(capfd, *conf, "knights", "same", "[1]") == (0, "[1]\n", "")
        code, _, said = call(capfd, *conf, "zen", "same")
        assert (code, said) == (100, "zen: conf/zen.ini: zen publishes no functions; there is no rpc =\n")
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
