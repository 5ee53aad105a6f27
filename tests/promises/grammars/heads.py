"""Requests and responses with many different fields: a parsed head takes many times its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from daemons.serving.connection import Connection
from daemons.web.handlers.server import WebServer
from tests.promises.grammars import http, site
from tests.promises.grammars.grammar import Feed, Grammar, converse, word
from tests.web.wsgi_talking import carried

#: Fields of one head, and bytes of each: so much of a head as is remembered.
FIELDS, LENGTH = 95, 19


class Reflecting(BaseHTTPRequestHandler):
    """Handler that responds with the fields of the request."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in self.headers.items():
            self.send_header(f"X-{name}", value)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def reflect(environ: Mapping[str, Any], start_response: Any) -> Iterable[bytes]:
    """WSGI application that responds with the fields of the request."""
    start_response("200 OK", [(f"X-{name}", value) for name, value in environ.items() if name.startswith("HTTP_")])
    return ()


def serve(handler: Any) -> Feed:
    server = WebServer(("127.0.0.1", 8001), handler, bind_and_activate=False)
    server.server_close()  # conversations here need no socket
    return lambda data: converse(server.make_conversation(Connection(server.socket, ("192.0.2.7", 4242), 1.0)), data)


def serve_handler(folder: Path) -> Feed:
    return serve(Reflecting)


def serve_application(folder: Path) -> Feed:
    return serve(carried(reflect))


def unlike(number: int) -> bytes:
    """Return in turn many short fields, few short fields, and one long field."""
    if number % 16 == 15:
        return http.get(f"X-Text: {word(number, 15_000)}")
    count = FIELDS if number % 2 else 30
    text = word(number, LENGTH - 8)
    return http.get(*(f"{text}{each:03}: {each}" for each in range(count)))


def adversarial(size: int) -> Mapping[str, bytes]:
    return {}  # `http` has them


GRAMMARS = (
    Grammar("heads of many fields", http.serve, unlike, http.honest, adversarial, http.SIZE),
    Grammar("heads of many fields to a site on WSGI", site.serve, unlike, site.honest, adversarial, site.SIZE),
    Grammar("heads of many fields to a handler", serve_handler, unlike, http.honest, adversarial, http.SIZE),
    Grammar("heads of many fields to an application", serve_application, unlike, http.honest, adversarial, http.SIZE),
)
