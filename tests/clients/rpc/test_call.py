"""``daemons call`` and its clients: results, faults, invalid responses and network errors."""

from __future__ import annotations

import base64
import json
import math
import os
import socket
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from daemons.cli.command import main
from daemons.clients.net.dial import NetworkError
from daemons.clients.rpc.call import LONGEST_BATCH, _format
from daemons.clients.rpc.json_rpc import JSONCaller
from daemons.clients.rpc.rpc import Caller, Endpoint, ProtocolError, RemoteFault
from daemons.clients.rpc.xml_rpc import XMLCaller
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
    ("words", "code", "printed", "expected"),
    [
        (("same", "3"), 0, "3\n", ""),
        (("same", "-3"), 0, "-3\n", ""),
        (("-t", "5", "same", "-3"), 0, "-3\n", ""),
        (("same", "three"), 0, "three\n", ""),
        (("same", '"3"'), 0, "3\n", ""),
        (("same", "NaN"), 0, "NaN\n", ""),
        (("same", '{"a": [1, null, "ÿ"]}'), 0, '{"a": [1, null, "ÿ"]}\n', ""),
        (("same", '["\\u202e\\u200b\\u009b\\ufe0f ÿ"]'), 0, '["\\u202e\\u200b\\u009b\\ufe0f ÿ"]\n', ""),
        (("same", '{"\\u2028": ["\\udb40\\udd00"]}'), 0, '{"\\u2028": ["\\udb40\\udd00"]}\n', ""),
        (("same", "a\x9bb\nc"), 0, "a\\x9bb\nc\n", ""),
        (("say", "no\x9b"), 3, "", "{url}: fault 1: <class 'ValueError'>:no\\x9b\n"),
        (("say", "no\x1b"), 2, "", "{url}: say: cannot marshal the character U+001B; send bytes\n"),
        (("none",), 3, "", "{url}: fault 1: <class 'Exception'>:method \"none\" is not supported\n"),
        (("same", "2147483648"), 2, "", "{url}: same: int exceeds XML-RPC limits, which are those of 32 bits\n"),
        ((), 2, "", "{url}: expected exactly one of METHOD VALUES, --list and --batch FILE\n"),
        (("--list", "same"), 2, "", "{url}: expected exactly one of METHOD VALUES, --list and --batch FILE\n"),
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
def test_call_prints_the_result_or_the_error(
    url: str, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, printed: str, expected: str
) -> None:
    assert call(capfd, url, *words) == (code, printed, expected.format(url=url))


@pytest.mark.parametrize(
    ("target", "code"),
    [("http://robin:{}@127.0.0.1:1/", 1), ("http://robin:{}@127.0.0.1:0/", 2), ("x://robin:{}@h", 2)],
)
def test_password_of_a_url_is_not_printed(capfd: pytest.CaptureFixture[str], target: str, code: int) -> None:
    found, _, error = call(capfd, target.format("secret"), "same", "7")
    assert (found, "secret" in error, error.startswith(target.replace("robin:{}@", ""))) == (code, False, True)


def test_batch_prints_each_result(url: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    batch = tmp_path / "calls"
    batch.write_text("same 1\n# a note\nsay 'no, no'\n\nsame \"two words\"\n")
    expected = f"{url}: {batch}, line 3: fault 1: <class 'ValueError'>:no, no\n"
    assert call(capfd, url, "--batch", str(batch)) == (3, "1\ntwo words\n", expected)
    batch.write_text("same 'one\n")
    assert call(capfd, url, "--batch", str(batch)) == (2, "", f"{url}: {batch}, line 1: no closing quotation\n")
    expected = f"{url}: --batch {batch}s: No such file or directory\n"
    assert call(capfd, url, "--batch", f"{batch}s") == (2, "", expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"same \xff", "not UTF-8: invalid start byte"),
        (b"#" * (LONGEST_BATCH + 1), f"more than {LONGEST_BATCH} characters"),
    ],
    ids=["not UTF-8", "too long"],
)
def test_unreadable_batch_is_an_error(
    data: bytes, reason: str, url: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    batch = tmp_path / "calls"
    batch.write_bytes(data)
    assert call(capfd, url, "--batch", str(batch)) == (2, "", f"{url}: --batch {batch}: {reason}\n")


def test_batch_with_a_byte_order_mark_is_read(url: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "calls").write_text("\ufeffsame 1\r\nsame 2", "utf-8")
    assert call(capfd, url, "--batch", str(tmp_path / "calls")) == (0, "1\n2\n", "")


def test_control_characters_are_escaped_in_errors_about_a_batch(
    url: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "calls").write_text("\x1b[2J\n")
    code, out, err = call(capfd, url, "--batch", str(tmp_path / "calls"))
    assert (code, out) == (2, "")
    assert "\x1b" not in err


def test_credentials_are_sent_as_the_bytes_of_the_command_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMONS_SECRET", os.fsdecode(b"p:\xff"))
    sent = b"Authorization: Basic " + base64.b64encode(b"u\xff:p:\xff") + b"\r\n"
    with answering(SAME, SAME) as (where, received):
        assert call(capfd, where.replace("//", "//u%FF:p%3A%FF@"), "same", "1")[0] == 0
        assert call(capfd, where, "--user", os.fsdecode(b"u\xff"), "same", "1")[0] == 0
        assert [sent in each for each in received] == [True, True]
        assert call(capfd, where, "--user", "a:b", "same", "1")[0] == 2


def test_daemon_of_the_project_is_called_by_name(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    with running(path=("/knights",)) as there:
        folder.module("mine", "from tests.rpc.knights import Knights\nknights = Knights()\n")
        ini = "[daemon]\nrpc = mine:knights\nport = {}\n[rpc]\npath = /knights\n"
        folder.write("knights", ini.format(there.address[1]))
        folder.write("zen", "[daemon]\nservice = zen\nport = 0\n")
        conf = ("--conf", str(folder.conf))
        assert call(capfd, *conf, "knights", "same", "[1]") == (0, "[1]\n", "")
        code, _, error = call(capfd, *conf, "zen", "same")
        assert (code, error) == (
            100,
            "zen: conf/zen.ini: zen publishes no functions; expected rpc = or jsonrpc =\n",
        )
        folder.write("knights", "[daemon]\nrpc = mine:knights\nlisten = systemd:\n")
        assert call(capfd, *conf, "knights", "same", "1")[0] == 100


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("http://Example.org/RPC2", "example.org", 80, "example.org"),
        ("https://example.org:8443/", "example.org", 8443, "example.org:8443"),
        ("http://[fe80::1%25lo]:8000/", "fe80::1%lo", 8000, "[fe80::1]:8000"),
        ("http://[::1]/", "::1", 80, "[::1]"),
        ("http://b\u00fccher.example:81/", "xn--bcher-kva.example", 81, "xn--bcher-kva.example:81"),
    ],
)
def test_host_of_a_url_is_parsed(url: str, host: str, port: int, authority: str) -> None:
    endpoint = Endpoint.of(url)
    assert (endpoint.address.host, endpoint.address.port, endpoint.host) == (host, port, authority)


@pytest.mark.parametrize(
    "where",
    [
        *("ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/", "http://127.0.0.1:0/", "http://x/a b"),
        *("http://[::1/", "http://\u00fc..example/"),
    ],
)
def test_invalid_url_is_refused(capfd: pytest.CaptureFixture[str], where: str) -> None:
    assert call(capfd, where, "same")[0] == 2


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the URL of a server that sends the next of `answers` to each client, and the requests it has received."""
    requests: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            client, _ = listener.accept()
            # The client may stop reading and reset the connection.
            with client, suppress(ConnectionError):
                requests.append(client.recv(65536))
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/", requests
        finally:
            thread.join()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
BODY = xmlrpc.client.dumps((7,), methodresponse=True).encode()
SAME = answer(BODY)


@pytest.mark.parametrize(
    ("response", "kind", "reason"),
    [
        (answer(b"", "500 Internal Server Error"), ProtocolError, "responded 500 Internal Server Error$"),
        (answer(b"", "404 "), ProtocolError, "responded 404$"),
        (answer(b"<html>"), ProtocolError, "sent malformed XML-RPC: <html> is not allowed in a document"),
        (
            answer(b"<!DOCTYPE a>"),
            ProtocolError,
            "sent malformed XML-RPC: document type declarations are not allowed",
        ),
        (answer(b"<?xml version='1.0' encoding='hz'?><a/>"), ProtocolError, "the encoding 'hz' is not accepted"),
        (
            answer("<!DOCTYPE a>".encode("utf-16")),
            ProtocolError,
            "sent malformed XML-RPC: document type declarations are not allowed",
        ),
        (answer(b"<methodResponse><params/></methodResponse>"), ProtocolError, "expected one <param> in a response"),
        (b"SSH-2.0-x\r\n", ProtocolError, "does not speak HTTP: it does not begin with HTTP/1"),
        (b"HTTP/1.1 101 \r\n\r\n", ProtocolError, "does not speak HTTP: 101 Switching Protocols"),
        (
            SAME.replace(b"\r\n", b"\r\nno colon\r\n", 1),
            ProtocolError,
            "does not speak HTTP: header line 1 has no colon",
        ),
        (SAME.replace(b"Length: ", b"Length: +"), ProtocolError, "does not speak HTTP: Content-Length is not"),
        (SAME.replace(b"Length: ", b"Length: 9999999999"), ProtocolError, "too large a response: a body of 9999999999"),
        (
            SAME.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1),
            ProtocolError,
            "unrequested content coding: gzip",
        ),
        (OK + CHUNKED + b"1_0\r\n", ProtocolError, "does not speak HTTP: a chunk's size"),
        (OK + b"A" * 70_000, ProtocolError, "too large a response: no end of the head within 65536 octets"),
        (b"", NetworkError, "closed the connection without a response"),
        (OK + b"A: b\r\n", NetworkError, "closed the connection in the middle of the head"),
        (SAME[:-5], NetworkError, "closed the connection 5 bytes before the end of the body"),
        (OK + CHUNKED + b"5\r\nabc", NetworkError, "closed the connection in the middle of a chunked body"),
    ],
)
def test_invalid_response_raises_the_matching_error(response: bytes, kind: type[Exception], reason: str) -> None:
    with answering(response) as (where, _), pytest.raises(kind, match=reason):
        XMLCaller(Endpoint.of(where)).call("same", [7])


@pytest.mark.parametrize(
    "sent",
    [
        SAME,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + SAME,
        SAME.replace(b"\r\n", b"\r\nX: folded\r\n line\r\n", 1),
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
        OK + CHUNKED + b"%x\r\n%b\r\n0\r\nX-Trailer: a\r\n\r\n" % (len(BODY), BODY),
        OK + b"Set-Cookie: a=b\r\n" * 200 + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    ],
    ids=["a length", "1xx before it", "folded", "HTTP/1.0", "chunks", "200 fields"],
)
def test_valid_responses_are_accepted(sent: bytes) -> None:
    with answering(sent) as (where, _):
        assert XMLCaller(Endpoint.of(where)).call("same", [7]) == 7


def test_malformed_response_is_one_line_of_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command ignores proxies.
    monkeypatch.setenv("http_proxy", "127.0.0.1:3128")
    monkeypatch.setenv("HTTPS_PROXY", "proxy")
    for response, code, text in (
        (
            b"HTTP/1.1 200 OK\nA: \x1b[2J\n\n",
            4,
            "does not speak HTTP: a control character, or a CR or LF without the other",
        ),
        (b"HTTP/1.1 500 \x9b\r\n\r\n", 4, "responded 500 \\x9b"),
        (b"", 1, "closed the connection without a response"),
    ):
        with answering(response) as (where, _):
            found, printed, error = call(capfd, where, "same", "7")
        assert (found, printed, error.count("\n")) == (code, "", 1)
        assert error.endswith(f"{text}\n")


@pytest.mark.parametrize(
    ("result", "printed"),
    [
        ('["\u202e", "\x9b2J", "\u200b", "\U000e0041"]', r'["\u202e", "\u009b2J", "\u200b", "\udb40\udc41"]'),
        ('{"\x9b2J": "K\u00f6nig \u4e2d \U0001f600"}', '{"\\u009b2J": "K\u00f6nig \u4e2d \U0001f600"}'),
    ],
)
def test_invisible_characters_are_printed_as_json_escapes(
    capfd: pytest.CaptureFixture[str], result: str, printed: str
) -> None:
    with answering(answer(f'{{"jsonrpc":"2.0","result":{result},"id":0}}'.encode())) as (where, _):
        assert call(capfd, where, "--json", "same") == (0, f"{printed}\n", "")
    assert json.loads(printed) == json.loads(result)


@pytest.mark.parametrize(
    "response",
    [
        b'{"jsonrpc":"2.0","result":1,"id":false}',
        b'{"jsonrpc":"2.0","error":{"code":1,"message":"m"},"id":5}',
        b'{"jsonrpc":"2.0","error":{"code":1,"message":"m"},"id":false}',
        b'{"jsonrpc":"2.0","error":{"code":true,"message":"m"},"id":0}',
    ],
)
def test_invalid_json_rpc_response_is_refused(response: bytes) -> None:
    with answering(answer(response)) as (where, _), pytest.raises(ProtocolError, match="not JSON-RPC"):
        JSONCaller(Endpoint.of(where)).call("same", [])


def test_two_responses_to_one_call_of_a_batch_are_refused() -> None:
    response = b'[{"jsonrpc":"2.0","result":1,"id":0},{"jsonrpc":"2.0","result":2,"id":0}]'
    with answering(answer(response)) as (where, _), pytest.raises(ProtocolError, match="did not return 1 results"):
        JSONCaller(Endpoint.of(where)).batch([("same", [])])


def test_only_idempotent_calls_are_retried_after_sending(no_pause: list[float]) -> None:
    with answering(b"", b"", SAME) as (where, requests):
        assert XMLCaller(Endpoint.of(where), retries=2, idempotent=["same"]).call("same", [7]) == 7
        assert len(requests) == 3
    assert 0.05 <= no_pause[0] <= 0.1 <= no_pause[1] <= 0.2
    for methods in (["same"], ["same", "count"]):
        with answering(b"") as (where, requests), pytest.raises(NetworkError):
            XMLCaller(Endpoint.of(where), retries=2, idempotent=["count"]).batch([(name, ()) for name in methods])
        assert len(requests) == 1
    with answering(SAME) as (where, _):
        pass_on = XMLCaller(Endpoint.of(where), retries=2, all_idempotent=True)
        with pytest.raises(ProtocolError, match="did not return 1 results"):
            pass_on.batch([("same", ())])


def test_any_call_is_retried_after_a_failed_connection(no_pause: list[float]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetworkError, match="connection refused"):
        XMLCaller(Endpoint.of(f"http://127.0.0.1:{port}/"), retries=3).call("count", [])
    assert len(no_pause) == 3


def test_fault_is_not_retried(url: str, no_pause: list[float]) -> None:
    with pytest.raises(RemoteFault) as caught:
        XMLCaller(Endpoint.of(url), retries=3, all_idempotent=True).call("say", ["no"])
    assert (caught.value.code, no_pause) == (1, [])


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are recorded instead of made."""
    pauses: list[float] = []
    sleep: Callable[[float], None] = pauses.append
    monkeypatch.setattr("daemons.clients.rpc.rpc.sleep", sleep)
    return pauses


@pytest.mark.parametrize(
    ("start", "caller"),
    [
        (OK + b"X: ", XMLCaller),
        (OK + b"Content-Length: 100000\r\n\r\n", XMLCaller),
        (OK + b"\r\n", JSONCaller),
        (b"", partial(JSONCaller, lines=True)),
    ],
    ids=["head", "body", "body without a length", "line"],
)
def test_slowly_sent_response_times_out(start: bytes, caller: Callable[[Endpoint], Caller]) -> None:
    ended = threading.Event()

    def serve() -> None:
        client, _ = listener.accept()
        with client, suppress(ConnectionError):
            client.sendall(start)
            while not ended.wait(0.01):
                client.sendall(b"x")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            endpoint = Endpoint.of(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.3)
            with pytest.raises(NetworkError, match="timed out"):
                caller(endpoint).call("same", [7])
        finally:
            ended.set()
            thread.join()


def test_numbers_outside_json_are_printed_as_strings(capfd: pytest.CaptureFixture[str]) -> None:
    infinite = b"<value><double>1e999</double></value>"
    member = b"<member><name>a</name>%b</member>" % infinite.replace(b"1e", b"-1e")
    array = b"<value><array><data>%b<value><struct>%b</struct></value></data></array></value>" % (infinite, member)
    body = b"<methodResponse><params><param>%b</param></params></methodResponse>" % array
    with answering(answer(body)) as (where, _):
        assert call(capfd, where, "same") == (0, '["Infinity", {"a": "-Infinity"}]\n', "")
    assert json.loads(_format([math.nan, (math.inf, 1.5)])) == ["NaN", ["Infinity", 1.5]]
