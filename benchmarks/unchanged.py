"""What others have written for the web, as they have it: it is run by us and by what we are compared with."""

from __future__ import annotations

import os
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FILES_VARIABLE, SCRATCH_VARIABLE = "BENCHMARKS_FILES", "BENCHMARKS_SCRATCH"
"""The environment variables that name the folder to be served, and one for what a server writes."""


class Hello(BaseHTTPRequestHandler):
    """The example of the standard library's documentation."""

    def do_GET(self) -> None:
        """The one page there is."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"hello")


def hello(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The same for WSGI; with its length, which some servers need to keep the connection."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


class Files(SimpleHTTPRequestHandler):
    """The folder that is asked for, and connections that are kept."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=os.environ[FILES_VARIABLE])
