"""``daemons cgi NAME``: one request to a WSGI application, as CGI has it (RFC 3875), for a web server that has nothing
better.  The request is in the environment and on standard input, and the answer goes to standard output:

    #!/bin/sh
    exec /srv/camelot/.venv/bin/daemons cgi webapp --conf /srv/camelot/conf

What is logged goes to standard error, which web servers write to a log of theirs.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO
from wsgiref.handlers import CGIHandler, read_environ

from daemons.operating import lifecycle
from daemons.operating.config.sections import Settings
from daemons.operating.diagnostics import say
from daemons.operating.loading.targets import target_of
from daemons.operating.logging import logs

FAILED = (
    b"Status: 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n500 Internal Server Error\n"
)

#: What a web server says of each request, and what it comes to where one does not.
ASSUMED = {
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.0",
}


def run(settings: Settings) -> int:
    """Answer the request; returns the exit code.  What goes wrong before there is an application to ask is answered
    with 500, and told on standard error."""
    if "REQUEST_METHOD" not in os.environ:
        reason = "REQUEST_METHOD is not set; a web server starts this, as CGI, with the request in the environment"
        say(f"{settings.name}: {reason}")
        return lifecycle.USAGE
    for name, value in ASSUMED.items():
        os.environ.setdefault(name, value)
    # What is logged, or printed by whoever, must not be a part of the answer.
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        code = lifecycle.reported(settings.name, lambda: _answer(settings, answer))
        if code:
            answer.write(FAILED)
    return code


def _answer(settings: Settings, answer: BinaryIO) -> int:
    os.chdir(settings.base)
    logs.configure(settings.logging_ini)
    _Handler(answer).run(target_of(settings).application())
    return lifecycle.ENDED


class _Handler(CGIHandler):
    """One whose answer does not go to where everybody prints."""

    def __init__(self, answer: BinaryIO) -> None:
        # The field Proxy of whoever asks, and a setting of many clients (https://httpoxy.org).
        os.environ.pop("HTTP_PROXY", None)
        environ = read_environ()
        # Not CGIHandler's own, which takes sys.stdout.
        super(CGIHandler, self).__init__(
            sys.stdin.buffer, answer, sys.stderr, environ, multithread=False, multiprocess=True
        )
