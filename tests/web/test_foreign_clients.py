"""Clients that others have written, each with an idea of HTTP of its own.  curl and http.client have their places in
test_engines.py and test_httpd_live.py."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import pytest

from daemons.serving.conversation import OVER, Conversation
from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from daemons.web.server import WebServer
from tests.serving.running import Within
from tests.web import site, wsgi_talking
from tests.web.handlers import LARGE, Hello
from tests.web.site import LONG, TEXT, make, service
from tests.web.talking import said, visit

#: Seconds after which a foreign program is not waited for any more.
PATIENCE = 60


def needs(program: str) -> pytest.MarkDecorator:
    """A mark: the test is skipped where `program` is missing."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is missing: make engines")


def ran(*command: str, cwd: Path) -> str:
    """What a program has to say, which ends well."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def url_of(running: Within) -> str:
    """Where it is, for clients."""
    address: Any = running.address
    return f"http://{address[0]}:{address[1]}"


# --- h11, at the seam -------------------------------------------------------------------------------


@contextmanager
def _httpd(folder: Path) -> Iterator[Conversation]:
    with site.talking(service(make(folder))) as talk:
        yield talk


@contextmanager
def _handler(folder: Path) -> Iterator[Conversation]:
    with visit(Hello) as talk:
        yield talk


@contextmanager
def _application(folder: Path) -> Iterator[Conversation]:
    with wsgi_talking.visit() as talk:
        yield talk


def exchange(
    client: h11.Connection, talk: Conversation, method: str, path: str, *fields: tuple[str, str], body: bytes = b""
) -> tuple[h11.Response, bytes]:
    """One request as h11 writes it, and the answer as h11 reads it, which raises for whatever is not as it must be."""
    request = h11.Request(method=method, target=path, headers=[("Host", "localhost"), *fields])
    octets = b"".join(client.send(part) or b"" for part in (request, h11.Data(body), h11.EndOfMessage()))
    client.receive_data(said(talk, octets))
    response, content = None, b""
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            if client.our_state is client.their_state is h11.DONE:
                client.start_next_cycle()
            return response, content
        else:
            assert isinstance(event, h11.InformationalResponse), event


#: What is asked one after the other, over one connection: the method, the target, the body, and the status.
ASKED: dict[Callable[[Path], Any], list[tuple[str, str, bytes, int, bytes | None]]] = {
    _httpd: [
        ("GET", "/text.txt", b"", 200, TEXT),
        ("HEAD", "/long.bin", b"", 200, b""),
        ("GET", "/long.bin", b"", 200, LONG),
        ("POST", "/text.txt", b"abc", 405, None),
        ("OPTIONS", "/", b"", 204, b""),
        ("GET", "/none", b"", 404, None),
    ],
    _handler: [
        ("GET", "/", b"", 200, b"hello"),
        ("HEAD", "/large", b"", 200, b""),
        ("GET", "/large", b"", 200, b"x" * LARGE),
        ("POST", "/", b"abc", 200, b"ABC"),
        ("GET", "/chunks", b"", 200, b"ab"),
        ("GET", "/unchanged", b"", 304, b""),
        ("GET", "/nothing", b"", 204, b""),
        ("HEAD", "/nothing", b"", 204, b""),
        ("GET", "/hints", b"", 200, b"hello"),
    ],
    _application: [
        ("GET", "/", b"", 200, b"hello"),
        ("GET", "/pieces", b"", 200, b"abc"),
        ("HEAD", "/pieces", b"", 200, b""),
        ("GET", "/measured", b"", 200, b"abc"),
    ],
}


@pytest.mark.parametrize("kind", ASKED)
def test_h11_which_is_strict_can_read_every_answer(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    client = h11.Connection(h11.CLIENT)
    with kind(tmp_path) as talk:
        for method, path, body, status, expected in ASKED[kind]:
            how = [("Transfer-Encoding", "chunked")] if body else []
            response, content = exchange(client, talk, method, path, *how, body=body)
            assert (response.status_code, content) == (status, content if expected is None else expected), path
            assert client.our_state is h11.IDLE, path
            assert client.trailing_data == (b"", False)
        response, _ = exchange(client, talk, "GET", "/", ("Connection", "close"))
        assert (response.status_code, client.their_state) == (200, h11.MUST_CLOSE)
        assert talk.state == OVER


@pytest.mark.parametrize("kind", ASKED)
def test_a_request_without_host_is_none_and_h11_reads_that_too(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    with kind(tmp_path) as talk:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
        client.send(h11.EndOfMessage())
        client.receive_data(said(talk, b"GET / HTTP/1.1\r\n\r\n"))
        response = client.next_event()
        assert isinstance(response, h11.Response)
        assert (response.status_code, talk.state) == (400, OVER)
        assert isinstance(client.next_event(), h11.Data)
        assert isinstance(client.next_event(), h11.EndOfMessage)
        assert client.their_state is h11.MUST_CLOSE


# --- over sockets -----------------------------------------------------------------------------------


@pytest.fixture
def running(engine: str, tmp_path: Path, within: Callable[..., Within]) -> dict[str, Within]:
    """Files, and a handler of ``http.server``."""
    return {
        "httpd": within(engine, Pump.carrying(service(make(tmp_path)))),
        "handler": within(stream_server(engine, WebServer), Hello),
    }


@needs("wrk")
@pytest.mark.parametrize(("engine", "what", "path"), [("loop", "httpd", "/text.txt"), ("pool", "handler", "/measured")])
def test_wrk_with_64_connections_sees_no_error(
    engine: str, what: str, path: str, running: dict[str, Within], tmp_path: Path
) -> None:
    where = url_of(running[what]) + path
    told = ran("wrk", "--threads", "1", "--connections", "64", "--duration", "1s", where, cwd=tmp_path)
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    requests = re.search(r"(\d+) requests in ", told)
    assert requests, told
    assert int(requests[1]) >= 64, told
    running[what].expect_nobody()


#: Asks one thing after the other by an agent that keeps one connection, and prints what it was told.
NODE = """
const http = require('http');
const [port, large] = process.argv.slice(1).map(Number);
const agent = new http.Agent({keepAlive: true, maxSockets: 1});
function ask(method, path, pieces) {
  return new Promise((resolve, reject) => {
    const request = http.request({host: '127.0.0.1', port, agent, method, path}, response => {
      const heard = [], port_here = response.socket.localPort;
      response.on('data', piece => heard.push(piece));
      response.on('end', () => resolve([response.statusCode, Buffer.concat(heard).toString('latin1'),
                                        response.complete, port_here]));
    });
    request.on('error', reject);
    for (const piece of pieces) request.write(piece);   // a body that is written in pieces goes out in chunks
    request.end();
  });
}
// All at once: the agent sends each as soon as the connection is free.
Promise.all([
  ask('GET', '/', []), ask('POST', '/', ['abc', 'x'.repeat(large), 'def']), ask('HEAD', '/large', []),
  ask('GET', '/large', []), ask('PUT', '/', ['a', 'b']), ask('GET', '/nothing', []), ask('GET', '/chunks', []),
]).then(all => { agent.destroy(); console.log(JSON.stringify(all)); });
"""


@needs("node")
@pytest.mark.parametrize("engine", ["loop", "pool"])
def test_an_agent_of_node_keeps_its_connection(engine: str, running: dict[str, Within], tmp_path: Path) -> None:
    port = str(running["handler"].address[1])
    told = json.loads(ran("node", "-e", NODE, port, "100000", cwd=tmp_path))
    bodies = ["hello", f"ABC{'X' * 100_000}DEF", "", "x" * LARGE, "AB", "", "ab"]
    assert [each[:3] for each in told] == [
        [204 if index == 5 else 200, body, True] for index, body in enumerate(bodies)
    ]
    assert len({port_there for *_, port_there in told}) == 1
    running["handler"].expect_nobody()


PAGE = b"""<!DOCTYPE html><title>before</title><link rel=stylesheet href=/style.css><body>
<p id=shown>of the page</p><script src=/script.js></script></body>"""
SCRIPT = b"""document.title = 'after';
document.getElementById('shown').textContent = getComputedStyle(document.body).getPropertyValue('--knight').trim();"""


@needs("chromium")
@pytest.mark.parametrize("engine", ["loop"])
def test_chromium_shows_a_page_with_its_style_and_script(
    engine: str, within: Callable[..., Within], tmp_path: Path
) -> None:
    root = tmp_path / "www"
    root.mkdir()
    for name, content in (("index.html", PAGE), ("style.css", b"body { --knight: Galahad }"), ("script.js", SCRIPT)):
        (root / name).write_bytes(content)
    running = within(engine, Pump.carrying(service(str(root))))
    profile = f"--user-data-dir={tmp_path}/profile"
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-breakpad",
        profile,
    )
    shown = ran("chromium", *options, "--dump-dom", f"{url_of(running)}/", cwd=tmp_path)
    assert "<title>after</title>" in shown
    assert '<p id="shown">Galahad</p>' in shown
    running.expect_nobody()
