"""Stock handlers under every engine, over real sockets: the same table of conversations, and clients of others."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from daemons.httpd import Httpd
from daemons.serving.engines import stream_server
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.web.handlers.server import WebServer
from tests.certificates import folder as certificates
from tests.operating.folder import Folder
from tests.operating.live import Live
from tests.serving.peers import ask, connect, converse, hear, hear_all, is_gone, name_of
from tests.serving.running import Process, Running, Within, access_of
from tests.serving.tls_client import theirs
from tests.web.applications import page
from tests.web.example_handlers import LARGE, Hello, Reading
from tests.web.example_site import LONG, TEXT, make, service
from tests.web.talking import get, responses
from tests.web.wsgi_talking import carried


class Raw(Hello):
    """A handler that reads its socket itself, as the stock class does."""

    def handle(self) -> None:
        super().handle()


HERE = ("one", "threads", "pool", "loop")

each_here = pytest.mark.parametrize("engine", HERE)

#: Sent bytes, and the expected statuses, bodies (None: any) and ending.
TABLE: dict[str, tuple[bytes, Sequence[tuple[int, bytes | None]], str]] = {
    "hello": (get("/"), [(200, b"hello")], "done"),
    "a pipeline": (
        get("/") * 3 + get("/large") + get("/measured"),
        [(200, b"hello")] * 3 + [(200, b"x" * LARGE), (200, b"five!")],
        "done",
    ),
    "a body": (get("/", method="PUT", body=b"abc") + get("/"), [(200, b"ABC"), (200, b"hello")], "done"),
    "a body in chunks": (
        get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n" + get("/"),
        [(200, b"ABC"), (200, b"hello")],
        "done",
    ),
    "the end of the keeping": (get("/") + get("/leave") + get("/"), [(200, b"hello"), (200, b"bye")], "finished"),
    "an old peer": (get("/", version="1.0"), [(200, b"hello")], "done"),
    "an old peer that goes on": (get("/", version="1.0") + get("/"), [(200, b"hello")], "finished"),
    "no such page": (get("/none"), [(404, None)], "finished"),
    "no such method": (get("/", method="FROB"), [(501, None)], "finished"),
    "no request": (get("/") + b"GET /\n\n", [(200, b"hello"), (400, None)], "malformed"),
    "too long": (get("/", "Content-Length: 9999999999", method="PUT"), [(413, None)], "oversize"),
    "half a request": (get("/") + get("/")[:-2], [(200, b"hello")], "cut"),
    "a bug": (get("/") + get("/fail") + get("/"), [(200, b"hello"), (500, b"500 Internal Server Error\n")], "failed"),
}


@pytest.fixture
def serve(within: Callable[..., Within]) -> Callable[..., Within]:
    """Start a server of a handler in this process, under an engine."""
    return lambda engine, handler, **limits: within(stream_server(engine, WebServer), handler, Limits(**limits))


@pytest.mark.parametrize("engine", [*HERE, "forks"])
def test_requests_get_the_expected_responses_and_endings(
    engine: str, serve: Callable[..., Within], process: Callable[..., Process]
) -> None:
    running: Running = (
        process("tests.web.example_handlers:Hello", engine, key="handler")
        if engine == "forks"
        else serve(engine, Hello)
    )
    held = {title: converse(running.address, sent) for title, (sent, _, _) in TABLE.items()}
    for title, (_, expected, ending) in TABLE.items():
        heard, name = held[title]
        found = [(each.status, each.body) for each in responses(heard)]
        assert [status for status, _ in found] == [status for status, _ in expected], title
        assert all(body in (None, got) for (_, got), (_, body) in zip(found, expected, strict=True)), title
        assert access_of(running, name)[0] == ending, title
    assert "a secret" in running.log_line(f"{held['a bug'][1]}: the service failed")
    running.log_line('"GET / HTTP/1.1" 200 5 "-" "-"')
    running.log_line('"GET /fail HTTP/1.1" 500 26 "-" "-"')


@each_here
def test_http_client_keeps_its_connection(engine: str, serve: Callable[..., Within]) -> None:
    address: Any = serve(engine, Hello).address
    client = http.client.HTTPConnection(*address)
    client.connect()
    sock = client.sock
    for method, path, body, expected in (
        ("GET", "/", None, b"hello"),
        ("HEAD", "/large", None, b""),
        ("GET", "/large", None, b"x" * LARGE),
        ("POST", "/", b"abc" * 100_000, b"ABC" * 100_000),
        ("POST", "/", iter([b"ab", b"c"]), b"ABC"),
        ("GET", "/chunks", None, b"ab"),
        ("GET", "/nothing", None, b""),
    ):
        client.request(method, path, body)
        assert client.getresponse().read() == expected
        assert client.sock is sock
    client.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: make engines")
def test_curl_uploads_after_100_continue(serve: Callable[..., Within], tmp_path: Path) -> None:
    address: Any = serve("loop", Hello).address
    body = tmp_path / "body"
    body.write_bytes(b"abc" * 1000)
    url = f"http://{address[0]}:{address[1]}/"
    command = ["curl", "-sv", "-H", "Expect: 100-continue", "--expect100-timeout", "20", "-T", str(body), url, "--next"]
    done = subprocess.run([*command, "-s", f"{url}measured"], capture_output=True, check=True)
    assert done.stdout == b"ABC" * 1000 + b"five!"
    assert b"< HTTP/1.1 100 Continue" in done.stderr
    assert b"Re-using existing connection" in done.stderr


@each_here
def test_a_long_file_reaches_a_slow_reader_whole(engine: str, serve: Callable[..., Within], tmp_path: Path) -> None:
    content = os.urandom(1024**2) * 16
    (tmp_path / "long").write_bytes(content)
    running = serve(engine, partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    with connect(running.address) as peer:
        peer.sendall(get("/long") + get("/nowhere"))
        first = peer.recv(1)
        # Only the kernel's buffers are filled so far; the next request waits.
        assert not any("nowhere" in line for line in running.lines)
        found = responses(first + hear_all(peer))
    assert [each.status for each in found] == [200, 404]
    assert found[0].body == content
    with connect(running.address) as peer:
        peer.sendall(get("/long"))
        hear(peer, b"HTTP")
        name = name_of(peer)
    assert access_of(running, name) == ("reset", "1")


@pytest.mark.parametrize("what", ["handler", "httpd"])
@pytest.mark.parametrize("engine", ["pool", "loop"])
def test_200_incomplete_requests_do_not_delay_other_clients(
    engine: str, what: str, serve: Callable[..., Within], within: Callable[..., Within], tmp_path: Path
) -> None:
    if what == "handler":
        running, pages = serve(engine, Hello), {"/": b"hello", "/measured": b"five!"}
    else:
        pages = {"/text.txt": TEXT, "/long.bin": LONG}
        running = within(engine, Pump.for_service(service(make(tmp_path))))
    with ExitStack() as stack:
        for number in range(200):
            half = stack.enter_context(connect(running.address))
            half.sendall((get("/"), get("/", "Content-Length: 9", method="PUT") + b"half")[number % 2][: 30 + number])
        for _ in range(20):
            heard, _ = converse(running.address, b"".join(map(get, pages)))
            assert [(each.status, each.body) for each in responses(heard)] == [(200, body) for body in pages.values()]
        assert running.server.active >= 200


def test_connection_with_an_unfinished_request_ends_as_slow(serve: Callable[..., Within]) -> None:
    running = serve("loop", Hello, message_timeout=0.2)
    with connect(running.address) as peer:
        peer.sendall(get("/")[:-2])
        assert is_gone(peer)
        assert access_of(running, name_of(peer)) == ("slow", "0")


@pytest.mark.parametrize("engine", ["threads", "pool"])
def test_handler_that_reads_its_socket_is_run_raw(engine: str, serve: Callable[..., Within]) -> None:
    running = serve(engine, Reading)
    heard, name = converse(running.address, b"any line\nanother\n")
    assert heard == b"any line\n"
    assert access_of(running, name)[1] == "-"


@pytest.mark.parametrize(
    "handler",
    [
        Hello,
        Raw,
        partial(Raw),
        SimpleHTTPRequestHandler,
        type("NamedRaw", (Raw,), {"server_version": "Mine/2"}),
        type("NamedHello", (Hello,), {"server_version": "Mine/2"}),
        carried(page),
        Pump.for_service(Httpd()),
    ],
)
def test_responses_disclose_no_version(handler: Any, serve: Callable[..., Within]) -> None:
    running = serve("threads", handler)
    named = "Mine" in str(vars(handler)) if isinstance(handler, type) else False
    for request in (get("/"), get("/nothing"), get("/fail"), get("/", method="FROB"), b"GET\r\n\r\n", get("/../x")):
        heard, _ = converse(running.address, request)
        assert b"ython" not in heard
        assert b"http.server" not in heard
        servers = set(re.findall(rb"^Server: *(.*)\r$", heard, re.MULTILINE))
        assert servers <= {b"Mine/2" if named else b"camelot"}


def test_from_an_ini_under_the_loop_over_tcp_tls_and_unix_until_it_is_stopped(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.module("hello", Path(__file__).parents[1].joinpath("example_handlers.py").read_text("utf-8"))
    pem = certificates()
    listen = "tcp://127.0.0.1:0 tls://127.0.0.1:0 unix:x.sock"
    tls = f"[tls]\ncertificate = {pem}/server.pem\nkey = {pem}/server.key\n"
    folder.write("x", f"[daemon]\nhandler = hello:Hello\nengine = loop\nlisten = {listen}\n{tls}")
    with Live(tmp_path, "x") as daemon:
        in_clear, encrypted, unix = daemon.addresses
        for shown in (in_clear, encrypted):
            host, _, port = shown.partition("://")[2].rpartition(":")
            with connect((host, int(port))) as peer:
                secured: Any = theirs().wrap_socket(peer, server_hostname="localhost") if shown is encrypted else peer
                with secured:
                    secured.sendall(get("/large") + get("/leave"))
                    assert [len(each.body) for each in responses(hear_all(secured))] == [LARGE, 3]
        with connect(unix.removeprefix("unix:")) as peer:
            ask(peer, get("/"), b"HTTP/1.1 200 OK\r\n")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.out + daemon.err
        assert '"GET /large HTTP/1.1" 200' in daemon.out
