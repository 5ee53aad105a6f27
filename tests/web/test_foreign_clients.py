"""Clients that others have written, each with an idea of HTTP of its own, over sockets.

Those of curl and http.client are in test_engines.py and test_httpd_live.py."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from daemons.web.handlers.server import WebServer
from tests.operating.folder import Folder
from tests.operating.live import Live
from tests.serving.running import ROOT, Within
from tests.web.example_handlers import LARGE, Hello
from tests.web.example_site import make, service

#: Timeout of a foreign program, in seconds.
PATIENCE = 60


def needs(program: str) -> pytest.MarkDecorator:
    """Return a mark that skips the test if `program` is missing."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is missing: make engines")


def ran(*command: str, cwd: Path) -> str:
    """Run a program that must succeed, and return its output."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def url_of(running: Within) -> str:
    """Return the URL of a server."""
    address: Any = running.address
    return f"http://{address[0]}:{address[1]}"


@pytest.fixture
def running(engine: str, tmp_path: Path, within: Callable[..., Within]) -> dict[str, Within]:
    """Run httpd, and a handler of ``http.server``."""
    return {
        "httpd": within(engine, Pump.for_service(service(make(tmp_path)))),
        "handler": within(stream_server(engine, WebServer), Hello),
    }


@needs("wrk")
@pytest.mark.parametrize(("engine", "what", "path"), [("loop", "httpd", "/text.txt"), ("pool", "handler", "/measured")])
def test_wrk_with_64_connections_sees_no_error(
    engine: str, what: str, path: str, running: dict[str, Within], tmp_path: Path
) -> None:
    where = url_of(running[what]) + path
    # The default timeout of 2 s is too short for a busy machine.
    options = ("--threads", "1", "--connections", "64", "--duration", "1s", "--timeout", f"{PATIENCE}s")
    told = ran("wrk", *options, where, cwd=tmp_path)
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    assert re.search(r"[1-9]\d* requests in ", told), told
    running[what].expect_no_connections()


#: Sends requests one after the other with an agent that keeps its connection, and prints the responses.
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
    running["handler"].expect_no_connections()


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
    running = within(engine, Pump.for_service(service(str(root))))
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
    running.expect_no_connections()


# --- a site of the standard library's own server, from an ini ---------------------------------------

#: A handler for another folder than the project's, as in the documentation.
FILES = """
from functools import partialmethod
from http.server import SimpleHTTPRequestHandler

class Files(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".knight": "text/x-knight"}
    __init__ = partialmethod(SimpleHTTPRequestHandler.__init__, directory="site")
"""


class Links(HTMLParser):
    """Collects the links of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if (tag, name) == ("a", "href") and value]


def scraped(start: str) -> dict[str, str]:
    """Follow links from `start` on its host; return the media types of all pages by path."""
    found: dict[str, str] = {}
    left = [start]
    while left:
        url = left.pop()
        path = urlsplit(url).path
        if path in found or urlsplit(url).netloc != urlsplit(start).netloc:
            continue
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            found[path] = response.headers.get_content_type()
            if found[path] == "text/html":
                left += [urljoin(response.url, link) for link in Links(response.read().decode()).found]
    return found


def test_scraper_finds_every_page(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.module("pages", FILES)
    folder.write("pages", "[daemon]\nhandler = pages:Files\nengine = loop\nlisten = tcp://127.0.0.1:0\n")
    (tmp_path / "site" / "below" / "deep").mkdir(parents=True)
    link = '<a href="/below">below</a><a href="http://192.0.2.1/elsewhere">elsewhere</a>'
    for name, content in {"index.html": link, "below/a b.txt": "x", "below/deep/sir.knight": "x"}.items():
        (tmp_path / "site" / name).write_text(content)
    with Live(tmp_path, "pages") as daemon:
        (address,) = daemon.addresses
        assert scraped(address.replace("tcp:", "http:") + "/") == {
            "/": "text/html",
            "/below": "text/html",
            "/below/a%20b.txt": "text/plain",
            "/below/deep/": "text/html",
            "/below/deep/sir.knight": "text/x-knight",
        }
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.out + daemon.err


# --- a front ----------------------------------------------------------------------------------------


@needs("nginx")
def test_nginx_accepts_the_documented_configuration(tmp_path: Path) -> None:
    (sample,) = re.findall(
        r"^```nginx\n(.*?)^```$", (ROOT / "docs/web.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    # nginx -t binds the ports, too.
    assert "listen 80;" in sample
    sample = sample.replace("listen 80;", f"listen unix:{tmp_path}/front;")
    # Replace paths below /var, which need root.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    first = f"pid {tmp_path}/pid; error_log stderr; events {{}}\n"
    (tmp_path / "nginx.conf").write_text(f"{first}http {{ access_log off;\n{folders}{sample}}}\n")
    ran("nginx", "-t", "-q", "-p", str(tmp_path), "-e", "stderr", "-c", "nginx.conf", cwd=tmp_path)
