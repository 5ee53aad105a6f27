"""``daemons fetch`` with well-behaved servers."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from daemons.clients.web.progress import Progress
from daemons.serving.engines import stream_server
from daemons.serving.guards.limits import Limits
from daemons.web.handlers.server import WebServer
from tests.clients.foreign import Foreign, until_delimiter
from tests.clients.web.conftest import Running
from tests.clients.web.responses import Capture, responding, response
from tests.clients.web.site import Site, daemons, serving
from tests.operating.live import BIN, environment
from tests.serving.running import Within

#: Verbose output for a form.
SHOWN = """\
--------------------------------------------------
POST /echo HTTP/1.1
Host: {host}
Accept: */*
Connection: keep-alive
User-Agent: Mozilla/5.0 (Windows; U; MSIE 7.0; Windows NT 6.0; en-US)
Accept-Encoding: gzip
Content-Type: application/x-www-form-urlencoded
Content-Length: 25
--------------------------------------------------
inputstring=Atlanta%2C+GA
-------------------- Response --------------------
HTTP/1.1 200 OK
Server: {server}
Date: {date}
Content-Type: text/plain
Content-Length: 64
"""

AGENT = "Mozilla/5.0 (Windows; U; MSIE 7.0; Windows NT 6.0; en-US)"


@pytest.mark.parametrize("served_by", ["http.server", "WebServer"])
def test_verbose_output_shows_request_and_response(
    served_by: str, within: Callable[..., Within], capsys: Capture
) -> None:
    """The body can still be read, on a persistent connection."""
    kind = type(
        "Fixed", (Site,), {"version_string": lambda _: "x", "date_time_string": lambda *_: "now", "received": []}
    )
    if served_by == "WebServer":
        host = "{}:{}".format(*within(stream_server("loop", WebServer), kind, Limits()).address)
        assert daemons("fetch", "-v", "-A", AGENT, "-d", "inputstring=Atlanta, GA", f"http://{host}/echo") == 0
    else:
        with serving(kind) as (url, _):
            host = url.removeprefix("http://")
            assert daemons("fetch", "-v", "-A", AGENT, "-d", "inputstring=Atlanta, GA", f"{url}/echo") == 0
    output = capsys.readouterr()
    assert output.out == "POST application/x-www-form-urlencoded inputstring=Atlanta%2C+GA"
    assert output.err == SHOWN.format(host=host, server="x", date="now")


@pytest.mark.parametrize(
    ("words", "method", "kind", "body"),
    [
        ((), "GET", None, b""),
        (("-d", "a=1 & 2", "-d", "a=\u00fc"), "POST", "application/x-www-form-urlencoded", b"a=1+%26+2&a=%C3%BC"),
        (("-d", "a=\udcff"), "POST", "application/x-www-form-urlencoded", b"a=%FF"),
        (("--json", '{"a": 1}'), "POST", "application/json", b'{"a": 1}'),
        (("--json", "1", "-H", "content-type: x/y"), "POST", "x/y", b"1"),
        (("-d", "a=b", "-X", "PUT"), "PUT", "application/x-www-form-urlencoded", b"a=b"),
        (("-X", "DELETE"), "DELETE", None, b""),
        (("-T", __file__), "PUT", None, Path(__file__).read_bytes()),
    ],
)
def test_method_and_body_follow_the_options(
    words: tuple[str, ...], method: str, kind: str | None, body: bytes, site: Running
) -> None:
    assert daemons("fetch", f"{site.url}/echo", *words) == 0
    (received,) = site.received
    assert (received.method, received.fields["Content-Type"], received.body) == (method, kind, body)


def test_head_option_prints_the_header_fields(site: Running, capsys: Capture) -> None:
    assert daemons("fetch", "-I", f"{site.url}/good") == 0
    out = capsys.readouterr().out
    assert out.startswith("HTTP/1.1 200 OK\nServer: ")
    assert out.endswith("\nContent-Type: text/plain\nContent-Length: 5\n\n")
    assert site.requests == ["HEAD /good"]


def test_error_status_fails_and_prints_the_body(site: Running, capsys: Capture, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    for words in ((), ("-o", target), ("-C", "-o", target)):
        assert daemons("fetch", f"{site.url}/gone", *words) == 1
        assert capsys.readouterr() == ("not here", f"daemons fetch: {site.url}/gone: 404 Not Found\n")
    assert daemons("fetch", f"{site.url}/login") == 1
    assert (os.listdir(tmp_path), target.read_text()) == (["target"], "before")


def test_the_target_keeps_its_mode_and_is_replaced_as_a_whole(site: Running, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    os.umask(umask := os.umask(0o022))
    assert daemons("fetch", f"{site.url}/good", "-o", link) == 0
    assert (link.is_symlink(), target.read_text(), target.stat().st_mode & 0o777) == (True, "good\n", 0o666 & ~umask)
    target.chmod(0o640)
    with target.open() as before:
        assert daemons("fetch", f"{site.url}/echo", "-o", target) == 0
        assert before.read() == "good\n"
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("GET None ", 0o640)
    assert sorted(os.listdir(tmp_path)) == ["link", "target"]


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "PUT", "GET"),
        (303, "POST", "GET"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
        (302, "HEAD", "HEAD"),
    ],
)
def test_redirects_are_logged_and_followed(status: int, method: str, then: str, site: Running, capsys: Capture) -> None:
    body = () if method == "HEAD" else ("--json", "1")
    words = ("-I",) if method == "HEAD" else ("-X", method)
    assert daemons("fetch", f"{site.url}/see/{status}", *words, *body) == 0
    assert capsys.readouterr().err == f"redirected, {status}: {site.url}/echo#there\n"
    received = site.received[-1]
    kept = then not in ("GET", "HEAD")
    assert (received.method, received.body, received.fields["Content-Type"]) == (
        then,
        b"1" if kept else b"",
        "application/json" if kept else None,
    )


def test_unwanted_endless_and_non_http_redirects_are_not_followed(site: Running, capsys: Capture) -> None:
    assert daemons("fetch", "--no-redirects", f"{site.url}/moved") == 0
    assert "\nLocation: /good\n" in capsys.readouterr().out
    assert daemons("fetch", f"{site.url}/loop") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"daemons fetch: {site.url}/loop: more than 10 redirects, the last to {site.url}/loop"
    assert site.requests.count("GET /loop") == 11
    for where, expected in (
        ("file:///etc/passwd", "redirected to 'file:///etc/passwd', which is not a web URL\n"),
        ("gopher://x/", "redirected to 'gopher://x/', which is not a web URL\n"),
        ("http://x:y/", "redirected to 'http://x:y/', which is not a web URL\n"),
    ):
        assert daemons("fetch", f"{site.url}/to?u={where}") == 1
        assert capsys.readouterr().err == f"daemons fetch: {site.url}/to?u={where}: {expected}"


def test_credentials_are_sent_to_one_origin_only(site: Running, capsys: Capture) -> None:
    fields = ("Cookie: c=1", "X-Fine: yes", "x-api-key: k", "Private-Token: t", "X-CSRF: c", "Host: x")
    secrets = ("-u", "galahad:blue: no", *(word for field in fields for word in ("-H", field)))
    assert daemons("fetch", f"{site.url}/to?u=/login", *secrets) == 0
    with serving() as (other, received):
        assert daemons("fetch", f"{site.url}/to?u={other}/login", *secrets) == 1
        assert daemons("fetch", f"{site.url}/to?u={other}/to?u={site.url}/login", *secrets) == 0
        assert {name for each in received for name in each.fields} == {
            *("Host", "Accept", "Accept-Encoding", "Connection", "User-Agent", "X-Fine")
        }
    assert daemons("fetch", site.url.replace("//", "//galahad:blue%3A%20no@") + "/login") == 0
    assert daemons("fetch", site.url.replace("//", "//galahad:red@") + "/login") == 1
    err = capsys.readouterr().err
    assert "blue" not in err
    assert "red@" not in err


def test_missing_password_without_a_terminal_is_an_error(site: Running, capsys: Capture) -> None:
    with open(os.devnull) as nothing, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", nothing)
        assert daemons("fetch", f"{site.url}/login", "-u", "galahad") == 1
    expected = "daemons fetch: -u galahad: no password, and no terminal to prompt for it; write -u galahad:PASSWORD\n"
    assert (capsys.readouterr().err, site.received) == (expected, [])


def test_unix_socket_and_proxy_are_used(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def proxy(client: socket.socket) -> None:
        foreign.received.append(until_delimiter(client, b"\r\n\r\n"))
        refused = foreign.received[-1].startswith(b"CONNECT")
        client.sendall(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nhi" % (b"403 No" if refused else b"200 OK"))

    with Foreign(proxy) as foreign:
        at = f"127.0.0.1:{foreign.port}"
        assert daemons("fetch", "--proxy", f"http://me:pw@{at}", "http://far.invalid/x?y") == 0
        assert daemons("fetch", "--proxy", f"http://{at}", "https://far.invalid/") == 1
        monkeypatch.setenv("http_proxy", f"http://{at}")
        assert daemons("fetch", "http://far.invalid/") == 0
        monkeypatch.setenv("http_proxy", at)
        assert daemons("fetch", "http://far.invalid/bare") == 0
        monkeypatch.setenv("no_proxy", "far.invalid")
        assert daemons("fetch", "http://far.invalid/") == 1
    assert [received.split(b"\r\n")[0].decode() for received in foreign.received] == [
        "GET http://far.invalid/x?y HTTP/1.1",
        "CONNECT far.invalid:443 HTTP/1.1",
        "GET http://far.invalid/ HTTP/1.1",
        "GET http://far.invalid/bare HTTP/1.1",
    ]
    assert b"\r\nProxy-Authorization: Basic bWU6cHc=\r\n" in foreign.received[0]
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "daemons fetch: https://far.invalid/: 403 No"
    assert err[1].startswith("daemons fetch: http://far.invalid/: ")
    assert daemons("fetch", "--proxy", "socks5://x", "http://far.invalid/") == 1
    expected = "daemons fetch: 'socks5://x' is not a supported proxy; expected http://HOST:PORT\n"
    assert capsys.readouterr().err == expected
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert daemons("fetch", "--unix-socket", path, "http://any/") == 1
    assert capsys.readouterr().err == f"daemons fetch: http://any/: {path}: connection refused\n"


def test_progress_bar_text() -> None:
    progress = Progress(4 * 1024 * 1024, start=1024 * 1024)
    progress.advance(1024 * 1024)
    assert progress.line(2.0) == " 50% [===============>              ] 2.0 MiB of 4.0 MiB, 512.0 KiB/s, 4 s left"
    progress = Progress(None)
    progress.advance(500)
    assert progress.line(5.0) == "500 B, 100 B/s"


@pytest.mark.parametrize("option", ["-o", "-T", "-u", "--jar", "--cache", "--cafile", "--proxy", "--unix-socket"])
def test_option_with_an_empty_value_is_refused(option: str, site: Running, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        daemons("fetch", option, "", f"{site.url}/good")
    assert ended.value.code == 2
    assert "empty argument" in capsys.readouterr().err
    assert not site.received


def test_an_open_descriptor_is_written_to_and_its_file_is_not_replaced(site: Running, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("precious\n")
    for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        with log.open("a") as file:
            subprocess.run(
                [BIN / "daemons", "fetch", "-o", name, f"{site.url}/good"],
                stdout=file,
                env=environment(),
                check=True,
                timeout=60,
            )
    assert log.read_text() == "precious\ngood\ngood\ngood\n"


def test_a_chunked_request_has_no_length(site: Running, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_text("x")
    with responding(response(b"")) as foreign:
        words = ("-T", body, "-H", "Transfer-Encoding: chunked", f"http://127.0.0.1:{foreign.port}/")
        assert daemons("fetch", *words) == 0
        assert b"content-length" not in foreign.received[0].lower()


def test_fifo_as_upload_is_refused_without_blocking(site: Running, tmp_path: Path, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert daemons("fetch", "-T", tmp_path / "fifo", f"{site.url}/echo") == 1
    assert "not a regular file" in capsys.readouterr().err


def test_password_in_a_url_is_percent_decoded(capsys: Capture) -> None:
    with responding(response(b"")) as foreign:
        assert daemons("fetch", f"http://u%FF:p%3A%FF@127.0.0.1:{foreign.port}/") == 0
        assert b"Basic " + base64.b64encode(b"u\xff:p:\xff") + b"\r\n" in foreign.received[0]
