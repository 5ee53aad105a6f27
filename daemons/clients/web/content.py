"""Content codings (RFC 9110, section 8.4): bounded incremental decoding of response bodies.

`httpx2.Response.iter_bytes` is not used: it applies up to five codings in turn, stops after the first gzip member, and
accepts a truncated stream as complete.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import httpx2

from daemons.clients import tools
from daemons.clients.web.common import Failure
from daemons.printable import escape

#: The codings that are requested and decoded.  ``deflate`` is decoded but not requested: servers confuse its two forms
#: (RFC 9110, section 8.4.1.2, note).
ACCEPTED = "gzip"
GZIP = frozenset(("gzip", "x-gzip"))

#: Maximum decoded bytes in memory.
PIECE = 64 * 1024

#: Maximum decoded bytes of a response: this many, or `RATIO` per received byte if that is more.  gzip can reach a ratio
#: of 1,032; text, logs and database dumps stay below 50.
ALLOWANCE = 64 * 1024 * 1024
RATIO = 100


def coding_of(response: httpx2.Response) -> str:
    """Return the content coding of a response, empty if there is none.  Raises `Failure` if there is more than one, or
    if it is not supported."""
    named = ",".join(response.headers.get_list("Content-Encoding")).split(",")
    codings = [each for each in (name.strip().lower() for name in named) if each not in ("", "identity")]
    if not codings:
        return ""
    found = escape(", ".join(codings)[:80])
    if len(codings) > 1:
        raise Failure(f"{response.url}: Content-Encoding: {found}: more than one coding; one is accepted")
    if codings[0] in GZIP or codings[0] == "deflate":
        return codings[0]
    raise Failure(f"{response.url}: Content-Encoding: {found}: not supported; gzip and deflate are")


def decoded(response: httpx2.Response) -> Iterator[bytes]:
    """Yield the body of a response without its content coding.  Raises `Failure` if it is malformed, truncated or
    followed by other data, or decodes to more than `ALLOWANCE` and `RATIO` allow."""
    coding = coding_of(response)
    pieces = response.iter_raw()
    if not coding:
        yield from pieces
        return
    try:
        yield from bounded(gunzip(pieces) if coding in GZIP else inflate(pieces), response)
    except (zlib.error, EOFError) as error:
        raise Failure(f"{response.url}: Content-Encoding: {coding}: {tools.reason_of(error)}") from error


def bounded(pieces: Iterator[bytes], response: httpx2.Response) -> Iterator[bytes]:
    """Yield `pieces`.  Raises `Failure` if they exceed the limits for the number of bytes received."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max(ALLOWANCE, RATIO * response.num_bytes_downloaded):
            raise Failure(
                f"{response.url}: decompression bomb: {response.num_bytes_downloaded} bytes received decode to more "
                f"than {size}; at most {RATIO} times as many are accepted (-H 'Accept-Encoding: identity' asks for "
                "the data as it is)"
            )
        yield piece


def gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode all gzip members (RFC 1952, section 2.2).  Raises `EOFError` and `zlib.error`."""
    member = None
    for piece in pieces:
        rest = piece
        while rest:
            if member is None:
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            yield from _drained(member, rest)
            rest = member.unused_data
            if member.eof:
                member = None
    # An empty body without any member is accepted: servers send it with redirects and errors.
    if member is not None:
        raise EOFError("truncated: the end of the gzip member is missing")


def inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode ``deflate``: the zlib format (RFC 1950) as specified, or raw deflate data (RFC 1951) as many servers send.
    Raises `EOFError` and `zlib.error`."""
    decoder = None
    head = b""
    for piece in pieces:
        data = head + piece
        if decoder is None:
            if len(data) < 2:  # the zlib header has two bytes
                head = data
                continue
            decoder, head = zlib.decompressobj(zlib.MAX_WBITS if _is_zlib(data) else -zlib.MAX_WBITS), b""
        if decoder.eof and data:
            raise zlib.error("data after the end of the stream")
        if data:
            yield from _drained(decoder, data)
        if decoder.unused_data:
            raise zlib.error("data after the end of the stream")
    if head or (decoder is not None and not decoder.eof):
        raise EOFError("truncated: the end of the stream is missing")


def _drained(decoder: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        piece = decoder.decompress(data, PIECE)
        if piece:
            yield piece
        data = decoder.unconsumed_tail
        # After the end of the stream, unconsumed_tail equals unused_data.  Before it, zlib may hold back output that
        # exceeds PIECE even if all input is consumed.
        if decoder.eof or (not data and len(piece) < PIECE):
            return


def _is_zlib(data: bytes) -> bool:
    """Return whether data begins with a zlib header (RFC 1950, section 2.2): method 8 and a valid checksum."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
