"""Applications written by others, unchanged, run by our servers and by those we compare with."""

from __future__ import annotations

import os
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FILES_VARIABLE, SCRATCH_VARIABLE = "BENCHMARKS_FILES", "BENCHMARKS_SCRATCH"
"""Environment variables for the served folder, and for a folder that a server may write to."""


class Hello(BaseHTTPRequestHandler):
    """The example of the standard library's documentation."""

    def do_GET(self) -> None:
        """Send the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"hello")


def hello(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The same for WSGI, with Content-Length, which some servers need to keep the connection."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


class Files(SimpleHTTPRequestHandler):
    """Handler for the served folder with persistent connections."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=os.environ[FILES_VARIABLE])
