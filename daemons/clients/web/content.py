"""Content codings (RFC 9110, section 8.4): the body of a response, decoded piece by piece within bounds.

`httpx2.Response.iter_bytes` is not used: it applies up to five codings in turn, stops after the first member of gzip,
and takes a stream without its end for a whole one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import httpx2

from daemons.clients import tools
from daemons.clients.web.common import Failure
from daemons.printable import escape

#: The codings that are asked for and decoded.  ``deflate`` is decoded but not asked for: it has two forms (RFC 9110,
#: section 8.4.1.2, note), which servers confuse.
ACCEPTED = "gzip"
GZIP = frozenset(("gzip", "x-gzip"))

#: Bytes of decoded data that are held at a time.
PIECE = 64 * 1024

#: Decoded bytes that any response may have, and beyond them decoded bytes per received byte.  gzip makes up to 1,032 of
#: one; text, logs and dumps of data bases stay under 50.
ALLOWANCE = 64 * 1024 * 1024
RATIO = 100


def coding_of(response: httpx2.Response) -> str:
    """Return the content coding of a response, empty if there is none.  Raises `Failure` if there is more than one, or
    one that is not known here."""
    named = ",".join(response.headers.get_list("Content-Encoding")).split(",")
    codings = [each for each in (name.strip().lower() for name in named) if each not in ("", "identity")]
    if not codings:
        return ""
    said = escape(", ".join(codings)[:80])
    if len(codings) > 1:
        raise Failure(f"{response.url}: Content-Encoding: {said}: more than one coding; one is accepted")
    if codings[0] in GZIP or codings[0] == "deflate":
        return codings[0]
    raise Failure(f"{response.url}: Content-Encoding: {said}: not supported; gzip and deflate are")


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
    """Yield `pieces` until they are too many for the bytes that were received.  Raises `Failure`."""
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
    """Decode all members of gzip (RFC 1952, section 2.2).  Raises `EOFError` and `zlib.error`."""
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
    # An empty body is no member, and whole: servers send one with redirects and errors.
    if member is not None:
        raise EOFError("truncated: the end of the gzip member is missing")


def inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode ``deflate``: zlib's format (RFC 1950) as specified, or bare deflate data (RFC 1951), as many servers send.
    Raises `EOFError` and `zlib.error`."""
    decoder = None
    head = b""
    for piece in pieces:
        data = head + piece
        if decoder is None:
            if len(data) < 2:  # the header of zlib's format has two bytes
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
        # At its end a decoder keeps an unconsumed tail, which is the same as the unused data.  Before it, zlib may hold
        # output for which there was no room, with no input left.
        if decoder.eof or (not data and len(piece) < PIECE):
            return


def _is_zlib(data: bytes) -> bool:
    """Return whether data begins with the header of RFC 1950, section 2.2: method 8, and a multiple of 31."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
