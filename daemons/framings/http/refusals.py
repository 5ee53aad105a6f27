"""Errors for invalid requests, with their responses.  Neither quotes bytes of the request."""

from __future__ import annotations

from daemons.framings.base import FramingError, Malformed, Oversize

#: RFC 9110, section 15; RFC 6585 for 431.
PHRASES = {
    400: "Bad Request",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}

#: Statuses for exceeded limits; the others are for violated rules.
SIZES = {413, 414, 431}


def response(status: int) -> bytes:
    """Return a complete response that announces the close of the connection."""
    body = f"{status} {PHRASES[status]}\n"
    return (
        f"HTTP/1.1 {status} {PHRASES[status]}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n"
        "\r\n"
        f"{body}"
    ).encode("ascii")


RESPONSES = {status: response(status) for status in PHRASES}


def refusal(status: int, text: str) -> FramingError:
    """Return the error to raise.  `text` is for the log, and must not quote bytes of the request."""
    error = Oversize(text) if status in SIZES else Malformed(text)
    error.apology = RESPONSES[status]
    return error
