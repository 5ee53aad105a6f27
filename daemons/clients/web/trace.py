"""Traces of requests and responses for -v."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemons.clients.web.common import log

if TYPE_CHECKING:
    import httpcore2

#: Maximum bytes of a body that is printed; of a longer one only the length is printed.
LONGEST = 4096


class Trace:
    """A trace that prints nothing."""

    def sent(self, data: bytes) -> None:
        """Handle bytes that are sent: the head of a request, or a piece of its body."""

    def received(self, response: httpcore2.Response) -> None:
        """Handle the head of a response.  The body is left to the caller."""


class VerboseTrace(Trace):
    """A trace that prints requests after a line of 50 dashes, and heads of responses after a titled line.

    A head is printed as soon as it is parsed: reading to the end of the connection would hang on a persistent one."""

    def sent(self, data: bytes) -> None:
        log("-" * 50)
        if len(data) > LONGEST or b"\0" in data:
            log(f"({len(data)} bytes)")
        else:
            _log_lines(data)

    def received(self, response: httpcore2.Response) -> None:
        log("-" * 20 + " Response " + "-" * 20)
        version, reason = (response.extensions.get(key, b"") for key in ("http_version", "reason_phrase"))
        _log_lines(b"%b %d %b" % (version, response.status, reason))
        for name, value in response.headers:
            _log_lines(name + b": " + value)


def _log_lines(data: bytes) -> None:
    for line in data.decode("utf-8", "backslashreplace").strip().split("\r\n"):
        log(line)
