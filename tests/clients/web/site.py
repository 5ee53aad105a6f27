"""A site on the standard library's server, which records the requests."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from daemons.cli.command import main

PAGE = b"""<!DOCTYPE html><title>t</title><meta charset="utf-8">
<a href="/good">good</a><a href="/good#x">again</a><a href="/gone">gone</a><a href="/moved">moved</a>
<a href="#here">here</a><a href="#nowhere">nowhere</a><a href="mailto:x@y">mail</a><img src="getonly.png" id="here">
<script src="/loop"></script><form action="/search"><input name="q"></form>
<form action="/dangerous" method="post"></form><a href="/other">other</a><a href="%s">away</a>"""

OTHER = b"<a href='/good'>good</a><a href='/deeper'>deeper</a><a href='/private/secret'>s</a><a href='/moved'>m</a>"

FORMS = """<form action="/nothing"><input name="other"></form>
<form action="/zipcity.php" method="post"><input type="hidden" name="token" value="gr&uuml;n">
<input name="inputstring"><input type="checkbox" name="c" value="no"><input type="checkbox" name="d" checked>
<select name="s"><option value="1">one<option value="2" selected>two</select><textarea name="t">
text</textarea><input type="submit" name="go" value="Go"><input type="submit" name="stop" value="Stop"></form>"""

WEATHER = """<table><tr><th>Condition:</th><td>Clear</td></tr><tr><td>Temperature</td><td>98 &deg;F\x1b</td></tr>
<tr><td>one cell</td></tr></table><dl><dt>Humidity</dt><dd class="h">9 %</dd></dl>"""


class Request(NamedTuple):
    """A recorded request."""

    method: str
    path: str
    fields: Any
    body: bytes


class Site(BaseHTTPRequestHandler):
    """Pages by path: each method `page_NAME` serves /NAME."""

    protocol_version = "HTTP/1.1"
    received: list[Request] = []  # noqa: RUF012
    away = ""
    robots = b"User-agent: *\nDisallow: /private\nDisallow: /*.php$\nAllow: /zipcity.php\n"

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.append(Request(self.command, self.path, self.headers, body))
        path = urlsplit(self.path).path
        method = getattr(self, "page_" + path.strip("/").partition("/")[0].partition(".")[0], None)
        if method is None:
            self.respond(404, b"not here")
        else:
            method(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any

    def respond(self, status: int, body: bytes = b"", **fields: str) -> None:
        self.send_response(status)
        fields = {"Content_Type": "text/html", **fields}
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def page_(self, _: bytes) -> None:
        self.respond(200, PAGE % self.away.encode())

    def page_robots(self, _: bytes) -> None:
        self.respond(200, self.robots)

    def page_other(self, _: bytes) -> None:
        self.respond(200, OTHER)

    def page_good(self, _: bytes) -> None:
        self.respond(200, b"good\n", Content_Type="text/plain")

    page_deeper = page_search = page_private = page_good

    def page_moved(self, _: bytes) -> None:
        self.respond(301, Location="/good")

    def page_see(self, _: bytes) -> None:
        self.respond(int(self.path.rpartition("/")[2]), b"elsewhere", Location="/echo#there")

    def page_to(self, _: bytes) -> None:
        self.respond(302, Location=parse_qs(urlsplit(self.path).query)["u"][0])

    def page_loop(self, _: bytes) -> None:
        self.respond(302, Location="/loop")

    def page_getonly(self, _: bytes) -> None:
        self.respond(405 if self.command == "HEAD" else 200, b"x")

    def page_echo(self, body: bytes) -> None:
        text = f"{self.command} {self.headers.get('Content-Type')} ".encode() + body
        self.respond(200, text, Content_Type="text/plain")

    def page_login(self, _: bytes) -> None:
        wanted = "Basic " + base64.b64encode(b"galahad:blue: no").decode()
        if self.headers.get("Authorization") == wanted:
            self.respond(200, b"well known")
        else:
            self.respond(401, b"unauthorized", WWW_Authenticate='Basic realm="x"')

    def page_cookie(self, _: bytes) -> None:
        self.respond(200, (self.headers.get("Cookie") or "none").encode(), Set_Cookie="quest=grail; HttpOnly")

    def page_lasting(self, _: bytes) -> None:
        self.respond(200, b"", Set_Cookie="age=1; Max-Age=1000; Path=/")

    def page_fresh(self, _: bytes) -> None:
        self.respond(200, b"fresh", Cache_Control="max-age=1000")

    def page_tagged(self, _: bytes) -> None:
        if self.headers.get("If-None-Match") == '"tag"':
            self.respond(304, ETag='"tag"', Cache_Control="no-cache")
        else:
            self.respond(200, b"tagged", ETag='"tag"', Cache_Control="no-cache")

    def page_form(self, _: bytes) -> None:
        self.respond(200, FORMS.encode(), Content_Type="text/html; charset=utf-8")

    def page_zipcity(self, _: bytes) -> None:
        self.respond(303, Location="/weather")

    def page_weather(self, _: bytes) -> None:
        self.respond(200, WEATHER.encode(), Content_Type="text/html; charset=utf-8")


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Ignore errors: clients may disconnect early, and other errors are visible in the response."""


@contextmanager
def serving(handler: type[Site] = Site, **attributes: Any) -> Iterator[tuple[str, list[Request]]]:
    """Yield the URL of a site, without a trailing slash, and the requests it has received."""
    received: list[Request] = []
    kind = type("Site", (handler,), {"received": received, **attributes})
    with _Server(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def daemons(*words: object) -> int:
    """``daemons WORDS``, here."""
    return main([str(word) for word in words])
