"""``test.test_wsgiref``, with `WSGIService` in place of the stock server.  See docs/cpython-suites.md."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from wsgiref.simple_server import software_version

from daemons.web.handlers.server import WebServer
from tests.cpython.suites import Unlike, cases, load
from tests.web.wsgi_talking import FAILED, batches, carried, visit

#: Cases that cannot pass, with the reasons.
UNLIKE = {
    "IntegrationTests.test_environ": Unlike(
        "fields of one name are joined by a comma and a blank (RFC 9110, section 5.3)", "Python test, Python test 2"
    ),
    "IntegrationTests.test_cp1252_url": Unlike("a request whose head has no end is none", r"Lists differ: .*!= \[\]"),
    "IntegrationTests.test_status_validation_errors": Unlike(
        "an invalid status is reported as a ValueError, with the expected form",
        "ValueError: status .* != 'AssertionError",
    ),
    "IntegrationTests.test_bytes_validation": Unlike("requests have a log of their own", "False is not true"),
}
if HTTPStatus(414).phrase != "URI Too Long":  # before Python 3.13
    UNLIKE["IntegrationTests.test_request_length"] = Unlike("414 has the reason of RFC 9110", "URI Too Long' != ")

suite: Any = load("test_wsgiref")


def run_amock(app: Callable[..., Any] = suite.hello_app, data: bytes = b"GET / HTTP/1.0\n\n") -> tuple[bytes, str]:
    """Replace the suite's function: return the response to `data`, with CR LF line ends, and the log.

    Known differences of our responses are replaced by the suite's form: the HTTP version, the place of Server, the
    field Connection, and the body of status 500.
    """
    log = Kept()
    logger = logging.getLogger("daemons.serving")
    logger.addHandler(log)
    try:
        with visit(app) as talk:
            out = b"".join(batches(talk, data.replace(b"\n", b"\r\n")))
            if talk.failure is not None:
                out = out.replace(FAILED, b"A server error occurred.  Please contact the administrator.")
                logger.error("failed", exc_info=talk.failure)
    finally:
        logger.removeHandler(log)
    server = b"Server: %b\r\n" % software_version.encode()
    out = out.replace(b"Server: camelot\r\n", b"", 1).replace(b"Connection: close\r\n", b"", 1)
    out = out.replace(b"HTTP/1.1 ", b"HTTP/1.0 ", 1).replace(b" 200 OK\r\n", b" 200 OK\r\n" + server, 1)
    return out, log.text


class Kept(logging.Handler):
    """Return the log with the request line at the end, as the stock server writes it."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{self.format(record)}\n- - 500\n"


suite.run_amock = run_amock
suite.make_server = lambda host, port, app, handler_class: WebServer((host, port), carried(app))
globals().update(cases(suite, "ours", UNLIKE, of=suite.IntegrationTests))
