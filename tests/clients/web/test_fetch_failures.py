"""``daemons fetch``, and what goes wrong: one line says it, and a file that was there stays what it was."""

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
from daemons.clients.web.transport import Deadline
from tests.certificates import folder
from tests.clients.foreign import Foreign, until_delimiter, until_end
from tests.clients.net.test_tls_report import s_server
from tests.clients.test_ask_tls import server
from tests.clients.test_tools import closed_port
from tests.clients.web.conftest import Running
from tests.clients.web.site import daemons
from tests.operating.live import BIN, environment, until

Capture = pytest.CaptureFixture[str]

CA = folder() / "ca.pem"
OK = b"HTTP/1.1 200 OK\r\n"


def saying(*answers: bytes) -> Foreign:
    """Says to each visitor the next of these, the last to those who come later, and closes."""

    def visit(visitor: socket.socket) -> None:
        foreign.heard.append(until_delimiter(visitor, b"\r\n\r\n"))
        with suppress(ConnectionError):  # a client need not read all of it
            visitor.sendall(answers[min(len(foreign.heard), len(answers)) - 1])

    foreign = Foreign(visit)
    return foreign


@pytest.mark.parametrize(
    ("answer", "said"),
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
def test_who_does_not_keep_to_http(answer: bytes, said: str, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    with saying(answer) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/"
        assert daemons("fetch", url, "-o", target) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"daemons fetch: {url}: {said}")
    assert (os.listdir(tmp_path), target.read_text()) == (["target"], "before")


def test_who_drips_is_given_up_in_time(capsys: Capture) -> None:
    leaving = threading.Event()

    def drip(visitor: socket.socket) -> None:
        until_delimiter(visitor, b"\r\n\r\n")
        try:
            visitor.sendall(OK + b"Content-Length: 1000\r\n\r\n")
            while not leaving.wait(0.02):
                visitor.sendall(b"x")
        except OSError:
            pass

    with Foreign(drip) as foreign:
        try:
            assert daemons("fetch", "-t", "0.3", f"http://127.0.0.1:{foreign.port}/") == 1
        finally:
            leaving.set()
    assert capsys.readouterr().err.endswith("/: no end in 0.3 s\n")


def test_a_long_one_has_its_time_as_long_as_something_moves(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline()
    deadline.begin(None, 5)
    before = deadline.until
    deadline.went_on()
    assert deadline.until > before
    deadline.begin(50, 5)
    before = deadline.until
    deadline.went_on()
    assert deadline.until == before
    monkeypatch.setattr(common, "PATIENCE", 0.2)
    with Foreign(lambda visitor: foreign.heard.append(until_end(visitor))) as foreign:
        assert daemons("fetch", f"http://127.0.0.1:{foreign.port}/") == 1
    assert capsys.readouterr().err.endswith("/: nothing has moved for 0.2 s\n")


def test_interim_responses_without_end_do_not_extend_the_deadline(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = threading.Event()

    def visit(visitor: socket.socket) -> None:
        until_delimiter(visitor, b"\r\n\r\n")
        with suppress(OSError):
            while not leaving.wait(0.01):
                visitor.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")

    monkeypatch.setattr(common, "PATIENCE", 0.3)
    with Foreign(visit) as foreign:
        try:
            assert daemons("fetch", f"http://127.0.0.1:{foreign.port}/") == 1
        finally:
            leaving.set()
    assert capsys.readouterr().err.count("\n") == 1


def test_who_is_not_there(capsys: Capture, tmp_path: Path) -> None:
    port = closed_port()
    for words, said in (
        ((f"http://127.0.0.1:{port}/",), f"http://127.0.0.1:{port}/: connection refused"),
        (("http://nobody.invalid/x",), "http://nobody.invalid/x: "),
        ((f"http://{'x' * 64}/",), f"http://{'x' * 64}/: not a host name: "),
        (("--unix-socket", "/nowhere", "http://x/"), "http://x/: no such file or directory"),
        (("--cafile", tmp_path / "no", "https://x/"), f"{tmp_path / 'no'}: no such file or directory"),
        (("-T", tmp_path / "no", "http://x/"), f"{tmp_path / 'no'}: no such file or directory"),
        (("-T", "/dev/zero", "http://x/"), "/dev/zero: not a regular file"),
    ):
        assert daemons("fetch", *words) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"daemons fetch: {said}")


@pytest.mark.parametrize(
    ("certificate", "host", "cafile", "said"),
    [
        ("expired.pem", "localhost", CA, "it has expired"),
        ("selfsigned.pem", "localhost", CA, "it is self-signed, not signed by a CA; to trust it all the same, name it"),
        ("server.pem", "localhost", None, "no CA known to this system has signed it; name the right one with --cafile"),
        ("selfsigned.pem", "127.0.0.1", folder() / "selfsigned.pem", "wrong name: IP address mismatch"),
    ],
)
def test_whom_it_does_not_trust(certificate: str, host: str, cafile: Path | None, said: str, capsys: Capture) -> None:
    words = ("--cafile", cafile) if cafile else ()
    with server(certificate, OK + b"Content-Length: 6\r\n\r\nsecret") as address:
        assert daemons("fetch", f"https://{host}:{address.port}/", *words) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"daemons fetch: https://{host}:{address.port}/: the certificate does not verify: {said}")


def test_over_tls(capsys: Capture) -> None:
    with server("expired.pem", OK + b"Content-Length: 2\r\n\r\nhi") as address:
        assert daemons("fetch", "-k", f"https://localhost:{address.port}/") == 0
    assert capsys.readouterr() == ("hi", "")
    with server("server.pem", OK + b"\r\nno end but this", goodbye=False) as address:
        assert daemons("fetch", "--cafile", CA, f"https://localhost:{address.port}/") == 1
    assert capsys.readouterr().err.endswith("/: cut off: the connection ended without close_notify\n")

    def unaware(visitor: socket.socket) -> None:
        visitor.sendall(b"HTTP/1.1 400 What?\r\n\r\n")
        with suppress(ConnectionResetError):
            until_end(visitor)

    with Foreign(unaware) as foreign:
        assert daemons("fetch", f"https://127.0.0.1:{foreign.port}/") == 1
    assert capsys.readouterr().err.endswith("/: TLS failed: wrong version number\n")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing: make engines")
def test_openssl_is_read_and_a_redirect_to_the_clear_is_told(site: Running, tmp_path: Path, capsys: Capture) -> None:
    with s_server("server.pem") as port:
        assert daemons("fetch", "-v", "--cafile", CA, f"https://localhost:{port}/") == 0
    said = capsys.readouterr()
    assert "s_server -www -accept" in said.out
    assert said.err.startswith("-" * 50 + "\nGET / HTTP/1.1\n")
    with server(
        "server.pem", b"HTTP/1.1 302 F\r\nContent-Length: 0\r\nLocation: %b/good\r\n\r\n" % site.url.encode()
    ) as at:
        assert daemons("fetch", "--cafile", CA, "-u", "me:pw", f"https://localhost:{at.port}/") == 0
    err = capsys.readouterr().err
    assert err == f"redirected, 302: {site.url}/good: WARNING! From TLS to the clear\n"
    assert "Authorization" not in site.heard[-1].fields


def test_where_it_cannot_be_put(site: Running, tmp_path: Path, capfd: Capture) -> None:
    for where, said in (("/dev/full", "no space left on device"), (tmp_path / "no" / "x", "no such file or directory")):
        assert daemons("fetch", f"{site.url}/good", "-o", where) == 1
        assert capfd.readouterr() == ("", f"daemons fetch: {where}: {said}\n")
    assert daemons("fetch", f"{site.url}/good", "-o", tmp_path) == 1
    assert capfd.readouterr().err == f"daemons fetch: {tmp_path}: is a directory\n"
    (tmp_path / "loop").symlink_to("loop")
    assert daemons("fetch", f"{site.url}/good", "-o", tmp_path / "loop") == 1
    assert capfd.readouterr().err == f"daemons fetch: {tmp_path}/loop: too many levels of symbolic links\n"
    (tmp_path / "x.part").mkdir()
    assert daemons("fetch", f"{site.url}/good", "-C", "-o", tmp_path / "x") == 1
    assert capfd.readouterr().err == f"daemons fetch: {tmp_path}/x.part: is a directory\n"


def test_a_jar_that_is_none_and_a_cache_that_is_of_no_use(site: Running, tmp_path: Path, capsys: Capture) -> None:
    jar, cache, url = tmp_path / "jar", tmp_path / "cache", f"{site.url}/good"
    fields = "expected DOMAIN, TRUE or FALSE, PATH, TRUE or FALSE, EXPIRY, NAME, VALUE, with tabs between them"
    for content, said in (
        (b"# fine\n\nlocalhost\tnonsense\n", f" line 3: not a cookie; {fields}"),
        (b"x\tFALSE\t/\tFALSE\tsoon\tn\tv\n", f" line 1: not a cookie; {fields}"),
        (b"\xff", ": not UTF-8 at octet 0"),
    ):
        jar.write_bytes(content)
        assert daemons("fetch", "--jar", jar, url) == 1
        assert capsys.readouterr() == ("", f"daemons fetch: --jar {jar}{said}\n")
        assert jar.read_bytes() == content
    for words, said in (
        (("--jar", tmp_path), f"--jar {tmp_path}: is a directory"),
        (("--jar", tmp_path / "no" / "x"), f"--jar {tmp_path}/no/x: no such file or directory"),
        (("--cache", jar), f"--cache {jar}: file exists"),
    ):
        assert daemons("fetch", *words, url) == 1
        assert capsys.readouterr().err == f"daemons fetch: {said}\n"
    for spoil in (lambda path: path.write_text("no database, and long enough to be told from one"), Path.mkdir):
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        spoil(cache / "answers.db")
        assert daemons("fetch", "--cache", cache, f"{site.url}/fresh") == 0
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("fresh", 1)
        assert err.startswith(f"the cache in {cache} is of no use: ")


def test_cookies_that_are_none_are_not_taken(tmp_path: Path) -> None:
    lines = (
        b"a=\xfc",
        b"b=x\ty",
        b"c=1; Max-Age=%b" % (b"9" * 20),
        b"d=1; Max-Age=1e9",
        b"e=1; Path=/\t",
        b"f=1; Secure",
    )
    answer = OK + b"".join(b"Set-Cookie: %b\r\n" % line for line in lines) + b"Content-Length: 0\r\n\r\n"
    with saying(answer) as foreign:
        for _ in range(3):
            assert daemons("fetch", "--jar", tmp_path / "jar", f"http://127.0.0.1:{foreign.port}/") == 0
    sent = [line for line in foreign.heard[-1].split(b"\r\n") if line.startswith(b"Cookie")]
    assert sent == [b"Cookie: c=1; e=1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ftp://x/",), "'ftp://x/' is no URL of the web; write http://HOST[:PORT]/PATH, or https://…"),
        (("http://x:99999/",), "is no URL of the web"),
        (("http://x/", "-H", "A: b\r\nC: d"), "a field is one line of Latin-1, without control characters"),
        (("http://x/", "-H", "A b"), "'A b' is no field; write 'NAME: VALUE'"),
        (("http://x/", "-A", "a\nb"), "a field is one line"),
        (("http://x/", "-d", "a"), "'a' is no field of a form; write NAME=VALUE"),
        (("http://x/", "--json", "{"), "not JSON: "),
        (("http://x/", "-X", "GET /"), "'GET /' is no method"),
        (("http://x/", "-C"), "-C: needs -o FILE, to go on with"),
        (("http://x/", "-C", "-o", "x", "-d", "a=b"), "-C: goes with a plain GET alone"),
        (("http://x/", "-I", "-T", "x"), "-I: nothing can be sent with it"),
        (("http://x/", "-d", "a=b", "--json", "1"), "not allowed with argument"),
    ],
)
def test_a_wrong_command_line_is_2(words: tuple[str, ...], said: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        daemons("fetch", *words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_ctrl_c_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    leaving = threading.Event()

    def stall(visitor: socket.socket) -> None:
        until_delimiter(visitor, b"\r\n\r\n")
        visitor.sendall(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 200_000)
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
    with saying(OK + b"Content-Length: 10000\r\n\r\n" + body) as foreign:
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

    def visit(visitor: socket.socket) -> None:
        until_delimiter(visitor, b"\r\n\r\n")
        visitor.sendall(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 50000)
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
