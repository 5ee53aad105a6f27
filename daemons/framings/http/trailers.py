"""Check of trailers: forbidden fields, and fields that may occur once (RFC 9110, section 6.5.1)."""

from __future__ import annotations

from daemons.framings.http.refusals import refusal

#: Fields for framing, routing, the connection, authentication, request conditions and controls, response controls, and
#: processing of the content.  All trailers are dropped here, but a reader that merges them into the head would act on
#: these.
FORBIDDEN = frozenset(
    (
        *(b"connection", b"content-length", b"host", b"keep-alive", b"te", b"trailer", b"transfer-encoding"),
        *(b"forwarded", b"proxy-connection", b"upgrade", b"via"),
        *(b"authorization", b"cookie", b"proxy-authenticate", b"proxy-authorization", b"set-cookie"),
        *(b"authentication-info", b"proxy-authentication-info", b"www-authenticate"),
        *(b"cache-control", b"expect", b"max-forwards", b"pragma", b"range"),
        *(b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since"),
        *(b"age", b"date", b"expires", b"location", b"retry-after", b"vary", b"warning"),
        *(b"content-encoding", b"content-range", b"content-type"),
    )
)

#: Fields that have one value, not a list of values (RFC 9110).
SINGLE = frozenset((b"etag", b"from", b"last-modified", b"referer", b"server", b"user-agent"))

#: Maximum number of trailers.  Senders have one or two; checking each costs ten times as much as reading its bytes.
MOST = 100


class Trailers:
    """The trailers of one message so far: their number, and the names of those that may occur once."""

    __slots__ = ("_count", "_single")

    def __init__(self) -> None:
        self._count = 0
        self._single: set[bytes] = set()

    def check(self, line: bytes) -> None:
        """Check one field line.  Raises `FramingError` for a forbidden or repeated field, and beyond `MOST` lines."""
        self._count += 1
        if self._count > MOST:
            raise refusal(431, f"more than {MOST} trailers")
        # In CGI variables, an underscore and a hyphen are the same.
        name = line.partition(b":")[0].lower().replace(b"_", b"-")
        # Only names from the tables above are repeated in the log.
        if name in FORBIDDEN:
            raise refusal(400, f"{name.decode('ascii')} in a trailer")
        if name in SINGLE:
            if name in self._single:
                raise refusal(400, f"more than one {name.decode('ascii')} in the trailers")
            self._single.add(name)
