"""``daemons call`` and its clients: results, faults, invalid responses and network errors."""

from __future__ import annotations

import base64
import json
import math
import os
from pathlib import Path

import pytest

from daemons.clients.rpc.call import LONGEST_BATCH, _format
from daemons.clients.rpc.rpc import Endpoint
from tests.clients.rpc.canned import SEVEN, call, http_response, serving, url
from tests.operating.conftest import _as_found, folder
from tests.operating.folder import Folder
from tests.rpc.knights import running

__all__ = ["_as_found", "folder", "url"]


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
        (("same", "2147483648"), 2, "", "{url}: same: int exceeds the XML-RPC limits of 32 bits\n"),
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
            "Here are the functions supported by this server:\ncount(['int'])\nsame(...)\n   Return the value.\n"
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
    with serving(SEVEN, SEVEN) as (where, received):
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
        with serving(response) as (where, _):
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
    with serving(http_response(f'{{"jsonrpc":"2.0","result":{result},"id":0}}'.encode())) as (where, _):
        assert call(capfd, where, "--json", "same") == (0, f"{printed}\n", "")
    assert json.loads(printed) == json.loads(result)


def test_numbers_outside_json_are_printed_as_strings(capfd: pytest.CaptureFixture[str]) -> None:
    infinite = b"<value><double>1e999</double></value>"
    member = b"<member><name>a</name>%b</member>" % infinite.replace(b"1e", b"-1e")
    array = b"<value><array><data>%b<value><struct>%b</struct></value></data></array></value>" % (infinite, member)
    body = b"<methodResponse><params><param>%b</param></params></methodResponse>" % array
    with serving(http_response(body)) as (where, _):
        assert call(capfd, where, "same") == (0, '["Infinity", {"a": "-Infinity"}]\n', "")
    assert json.loads(_format([math.nan, (math.inf, 1.5)])) == ["NaN", ["Infinity", 1.5]]
