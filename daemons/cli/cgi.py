"""``daemons cgi NAME``: one request to a WSGI application over CGI (RFC 3875), for web servers that cannot be a proxy.

The request is in the environment and on standard input, and the response goes to standard output:

    #!/bin/sh
    exec /srv/camelot/.venv/bin/daemons cgi webapp --conf /srv/camelot/conf

Log lines go to standard error, which web servers write to their own log.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO
from wsgiref.handlers import CGIHandler, read_environ

from daemons.operating import lifecycle
from daemons.operating.config.sections import Settings
from daemons.operating.diagnostics import report
from daemons.operating.loading.targets import target_of
from daemons.operating.logging import logs

FAILED = (
    b"Status: 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n500 Internal Server Error\n"
)

#: Variables of a request, with the values for those that the web server does not set.
DEFAULTS = {
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.0",
}


def run(settings: Settings) -> int:
    """Respond to the request; return the exit code.

    If the application cannot be loaded, the response is 500, and the error is on standard error."""
    if "REQUEST_METHOD" not in os.environ:
        reason = (
            "REQUEST_METHOD is not set; a web server starts this command over CGI, with the request in the environment"
        )
        report(f"{settings.name}: {reason}")
        return lifecycle.USAGE
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Log lines and output of print() must not become part of the response.
    with os.fdopen(os.dup(1), "wb") as response:
        os.dup2(2, 1)
        code = lifecycle.exit_code_of(settings.name, lambda: _respond(settings, response))
        if code:
            response.write(FAILED)
    return code


def _respond(settings: Settings, response: BinaryIO) -> int:
    os.chdir(settings.base)
    logs.configure(settings.logging_ini)
    _Handler(response).run(target_of(settings).application())
    return lifecycle.ENDED


class _Handler(CGIHandler):
    """CGI handler that writes the response to a file of its own instead of `sys.stdout`."""

    def __init__(self, response: BinaryIO) -> None:
        # Set from the request's Proxy field, and read as a setting by many HTTP clients (https://httpoxy.org).
        os.environ.pop("HTTP_PROXY", None)
        environ = read_environ()
        # Not CGIHandler.__init__, which uses sys.stdout.
        super(CGIHandler, self).__init__(
            sys.stdin.buffer, response, sys.stderr, environ, multithread=False, multiprocess=True
        )
