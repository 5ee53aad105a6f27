"""``daemons fetch`` with failures: one line of error, and an existing output file is unchanged."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from daemons.clients.web import common
from daemons.clients.web.deadline import Deadline
from tests.clients.foreign import Foreign, until_delimiter, until_end
from tests.clients.test_tools import closed_port
from tests.clients.web.conftest import Running
from tests.clients.web.responses import OK, Capture, responding
from tests.clients.web.site import daemons
from tests.operating.live import BIN, environment, until


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            OK + b"Content-Length: 10\r\n\r\nhalf",
            "cut off: peer closed connection without sending complete message body",
        ),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf",
            "cut off: peer closed connection without sending complete",
        ),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nhalf", "cut off: peer unexpectedly closed connection"),
        (OK + b"Content-Length: -1\r\n\r\n", "bad Content-Length"),
        (
            OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf",
            "Content-Encoding: gzip: error -3 while",
        ),
        (OK + b"X: " + b"x" * 200_000, "receive buffer too long"),
        (OK, "server disconnected without sending a response"),
        (b"", "server disconnected without sending a response"),
        (b"SSH-2.0-OpenSSH\x1b[31m\r\n\r\n", "illegal status line"),
    ],
)
def test_malformed_http_is_one_line_of_error(answer: bytes, expected: str, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    with responding(answer) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/"
        assert daemons("fetch", url, "-o", target) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"daemons fetch: {url}: {expected}")
    assert (os.listdir(tmp_path), target.read_text()) == (["target"], "before")


def test_slowly_sent_response_times_out(capsys: Capture) -> None:
    leaving = threading.Event()

    def drip(client: socket.socket) -> None:
        until_delimiter(client, b"\r\n\r\n")
        try:
            client.sendall(OK + b"Content-Length: 1000\r\n\r\n")
            while not leaving.wait(0.02):
                client.sendall(b"x")
        except OSError:
            pass

    with Foreign(drip) as foreign:
        try:
            assert daemons("fetch", "-t", "0.3", f"http://127.0.0.1:{foreign.port}/") == 1
        finally:
            leaving.set()
    assert capsys.readouterr().err.endswith("/: timed out: not complete after 0.3 s\n")


def test_long_response_does_not_time_out_while_it_progresses(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline()
    deadline.begin(None, 5)
    before = deadline.until
    deadline.note_activity()
    assert deadline.until > before
    deadline.begin(50, 5)
    before = deadline.until
    deadline.note_activity()
    assert deadline.until == before
    monkeypatch.setattr(common, "PATIENCE", 0.2)
    with Foreign(lambda client: foreign.received.append(until_end(client))) as foreign:
        assert daemons("fetch", f"http://127.0.0.1:{foreign.port}/") == 1
    assert capsys.readouterr().err.endswith("/: timed out: no progress for 0.2 s\n")


def test_interim_responses_without_end_do_not_extend_the_deadline(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = threading.Event()

    def visit(client: socket.socket) -> None:
        until_delimiter(client, b"\r\n\r\n")
        with suppress(OSError):
            while not leaving.wait(0.01):
                client.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")

    monkeypatch.setattr(common, "PATIENCE", 0.3)
    with Foreign(visit) as foreign:
        try:
            assert daemons("fetch", f"http://127.0.0.1:{foreign.port}/") == 1
        finally:
            leaving.set()
    assert capsys.readouterr().err.count("\n") == 1


def test_connection_errors_are_one_line(capsys: Capture, tmp_path: Path) -> None:
    port = closed_port()
    for words, expected in (
        ((f"http://127.0.0.1:{port}/",), f"http://127.0.0.1:{port}/: connection refused"),
        (("http://absent.invalid/x",), "http://absent.invalid/x: "),
        ((f"http://{'x' * 64}/",), f"http://{'x' * 64}/: not a host name: "),
        (("--unix-socket", "/nowhere", "http://x/"), "http://x/: /nowhere: no such file or directory"),
        (("--unix-socket", "x" * 200, "http://x/"), f"http://x/: {'x' * 200}: AF_UNIX path too long"),
        (
            ("--proxy", f"http://u:p@127.0.0.1:{port}", "http://x/"),
            f"http://x/: proxy http://127.0.0.1:{port}: connection refused",
        ),
        (("--proxy", "absent.invalid:1", "https://x/"), "https://x/: proxy http://absent.invalid:1: "),
        (("--cafile", tmp_path / "no", "https://x/"), f"{tmp_path / 'no'}: no such file or directory"),
        (("-T", tmp_path / "no", "http://x/"), f"{tmp_path / 'no'}: no such file or directory"),
        (("-T", "/dev/zero", "http://x/"), "/dev/zero: not a regular file"),
        (("-T", "/proc/self/status", "http://x/"), "/proc/self/status: the system does not know its length"),
    ):
        assert daemons("fetch", *words) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"daemons fetch: {expected}")


def test_unwritable_output_is_an_error(site: Running, tmp_path: Path, capfd: Capture) -> None:
    for where, expected in (
        ("/dev/full", "no space left on device"),
        (tmp_path / "no" / "x", "no such file or directory"),
    ):
        assert daemons("fetch", f"{site.url}/good", "-o", where) == 1
        assert capfd.readouterr() == ("", f"daemons fetch: {where}: {expected}\n")
    assert daemons("fetch", f"{site.url}/good", "-o", tmp_path) == 1
    assert capfd.readouterr().err == f"daemons fetch: {tmp_path}: is a directory\n"
    (tmp_path / "loop").symlink_to("loop")
    assert daemons("fetch", f"{site.url}/good", "-o", tmp_path / "loop") == 1
    assert capfd.readouterr().err == f"daemons fetch: {tmp_path}/loop: too many levels of symbolic links\n"
    (tmp_path / "x.part").mkdir()
    assert daemons("fetch", f"{site.url}/good", "-C", "-o", tmp_path / "x") == 1
    assert capfd.readouterr().err == f"daemons fetch: {tmp_path}/x.part: is a directory\n"


def test_invalid_cookie_file_and_unusable_cache_are_reported(site: Running, tmp_path: Path, capsys: Capture) -> None:
    jar, cache, url = tmp_path / "jar", tmp_path / "cache", f"{site.url}/good"
    fields = "expected DOMAIN, TRUE or FALSE, PATH, TRUE or FALSE, EXPIRY, NAME, VALUE, with tabs between them"
    for content, expected in (
        (b"# fine\n\nlocalhost\tnonsense\n", f" line 3: not a cookie; {fields}"),
        (b"x\tFALSE\t/\tFALSE\tsoon\tn\tv\n", f" line 1: not a cookie; {fields}"),
        (b"\xff", ": not UTF-8 at byte 0"),
    ):
        jar.write_bytes(content)
        assert daemons("fetch", "--jar", jar, url) == 1
        assert capsys.readouterr() == ("", f"daemons fetch: --jar {jar}{expected}\n")
        assert jar.read_bytes() == content
    for words, expected in (
        (("--jar", tmp_path), f"--jar {tmp_path}: is a directory"),
        (("--jar", tmp_path / "no" / "x"), f"--jar {tmp_path}/no/x: no such file or directory"),
        (("--cache", jar), f"--cache {jar}: file exists"),
    ):
        assert daemons("fetch", *words, url) == 1
        assert capsys.readouterr().err == f"daemons fetch: {expected}\n"
    for spoil in (lambda path: path.write_text("not a database, but long enough to be read as one"), Path.mkdir):
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        spoil(cache / "answers.db")
        assert daemons("fetch", "--cache", cache, f"{site.url}/fresh") == 0
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("fresh", 1)
        assert err.startswith(f"the cache in {cache} cannot be used: ")


def test_invalid_cookies_are_ignored(tmp_path: Path) -> None:
    lines = (
        b"a=\xfc",
        b"b=x\ty",
        b"c=1; Max-Age=%b" % (b"9" * 20),
        b"d=1; Max-Age=1e9",
        b"e=1; Path=/\t",
        b"f=1; Secure",
    )
    answer = OK + b"".join(b"Set-Cookie: %b\r\n" % line for line in lines) + b"Content-Length: 0\r\n\r\n"
    with responding(answer) as foreign:
        for _ in range(3):
            assert daemons("fetch", "--jar", tmp_path / "jar", f"http://127.0.0.1:{foreign.port}/") == 0
    sent = [line for line in foreign.received[-1].split(b"\r\n") if line.startswith(b"Cookie")]
    assert sent == [b"Cookie: c=1; e=1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ftp://x/",), "'ftp://x/' is not a web URL; expected http://HOST[:PORT]/PATH or https://…"),
        (("http://x:99999/",), "is not a web URL"),
        (("http://x/", "-H", "A: b\r\nC: d"), "expected one line of Latin-1 without control characters"),
        (("http://x/", "-H", "A b"), "'A b' is not a header field; expected 'NAME: VALUE'"),
        (("http://x/", "-A", "a\nb"), "expected one line of Latin-1"),
        (("http://x/", "-d", "a"), "'a' is not a form field; expected NAME=VALUE"),
        (("http://x/", "--json", "{"), "not JSON: "),
        (("http://x/", "--json", '{"a": NaN}'), "not JSON: NaN is not a number"),
        (("http://x/", "-X", "GET /"), "'GET /' is not a method"),
        (("http://x/", "-C"), "-C: requires -o FILE"),
        (("http://x/", "-C", "-o", "x", "-d", "a=b"), "-C: requires a plain GET"),
        (("http://x/", "-I", "-T", "x"), "-I: a HEAD request has no body"),
        (("http://x/", "-I", "-o", "x"), "-I: prints the header fields; cannot be combined with -o FILE"),
        (("http://x/", "-d", "a=b", "--json", "1"), "not allowed with argument"),
    ],
)
def test_wrong_command_line_exits_with_2(words: tuple[str, ...], expected: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        daemons("fetch", *words)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err.splitlines()[-1]


def test_ctrl_c_leaves_the_output_file_unchanged(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    leaving = threading.Event()

    def stall(client: socket.socket) -> None:
        until_delimiter(client, b"\r\n\r\n")
        client.sendall(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 200_000)
        leaving.wait(20)

    def begun() -> bool:
        return any(path.stat().st_size for path in tmp_path.glob(".target.*"))

    with Foreign(stall) as foreign:
        command = [str(BIN / "daemons"), "fetch", f"http://127.0.0.1:{foreign.port}/", "-o", str(target)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
            try:
                until(begun, "a part of it")
                process.send_signal(signal.SIGINT)
                assert process.communicate(timeout=20)[1] == ""
                assert process.returncode == 130
            finally:
                leaving.set()
                process.kill()
    assert (os.listdir(tmp_path), target.read_text()) == (["target"], "before")


def test_a_slow_reader_of_a_truncated_body_gets_all_of_it() -> None:
    body = b"x" * 9_000
    with responding(OK + b"Content-Length: 10000\r\n\r\n" + body) as foreign:
        command = [str(BIN / "daemons"), "fetch", f"http://127.0.0.1:{foreign.port}/"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), pipesize=4096
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            received = process.stdout.read(1)
            time.sleep(1)
            received += process.stdout.read()
            assert (received, process.wait(20)) == (body, 1)
            assert b"cut off" in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_fetch_ended_by_a_signal_leaves_no_temporary_file(number: signal.Signals, tmp_path: Path) -> None:
    over = threading.Event()

    def visit(client: socket.socket) -> None:
        until_delimiter(client, b"\r\n\r\n")
        client.sendall(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 50000)
        over.wait(60)

    target = tmp_path / "page"
    target.write_bytes(b"before")
    with Foreign(visit) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/"
        command = [str(BIN / "daemons"), "fetch", url, "-o", str(target)]
        fetch = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
        try:
            until(lambda: len(list(tmp_path.iterdir())) == 2, "the temporary file")
            fetch.send_signal(number)
            assert fetch.wait(20) == -number
        finally:
            over.set()
            fetch.kill()
            fetch.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    assert target.read_bytes() == b"before"
