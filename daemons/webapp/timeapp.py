"""The time over HTTP: a minimal useful application."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def timeapp(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """PEP 3333.  Returns the local time, in the format of time.ctime(), at ``/``; 501 for methods other than GET and
    HEAD, 404 for other paths.  Accepted hosts are up to `daemons.webapp.middleware.ForHosts`."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        status, text = "501 Not Implemented", "501 Not Implemented\n"
    elif environ.get("PATH_INFO", "") not in ("", "/"):
        status, text = "404 Not Found", "404 Not Found\n"
    else:
        status, text = "200 OK", f"{time.ctime()}\n"
    body = text.encode("ascii")
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
