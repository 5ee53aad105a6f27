"""The memory that a peer can make OpenSSL reserve for its handshake messages.

A handshake message begins with its length (RFC 8446, section 4), and OpenSSL allocates all of it at once: nine bytes
announce a ClientHello of 128 KiB.  So the announced length is charged, whether the message arrives or not.
"""

from __future__ import annotations

import ssl

#: Content types of records (RFC 8446, section 5.1), and the size of their header.
HANDSHAKE, APPLICATION_DATA = 22, 23
HEADER = 5

#: Bytes before the body of a handshake message: its type, and its length in three bytes.
MESSAGE_HEADER = 4

#: Bytes of the longest ClientHello that OpenSSL 3 accepts (ssl/statem/statem_local.h); a longer one is refused.
LONGEST_HELLO = 131_396

#: Bytes of the longest chain of client certificates: SSL_CTX_set_max_cert_list(3).
LONGEST_CHAIN = 100 * 1024


class HandshakeMessages:
    """Parser of the records that a peer sends before the handshake is complete."""

    __slots__ = ("_body", "_client_certificate", "_kind", "_left", "_record", "_start", "reserved")

    def __init__(self, context: ssl.SSLContext) -> None:
        #: Bytes that OpenSSL may have allocated for the longest message so far.
        self.reserved = 0
        #: Whether a certificate is requested from the client.
        self._client_certificate = context.verify_mode != ssl.CERT_NONE
        #: Received part of an incomplete record header.
        self._record = b""
        #: Content type of the current record, and its bytes that are still missing.
        self._kind = 0
        self._left = 0
        #: Received part of an incomplete message header.
        self._start = b""
        #: Missing bytes of the current message body.
        self._body = 0

    def receive(self, data: bytes) -> None:
        """Parse the next bytes of the connection."""
        at = 0
        while at < len(data):
            if not self._left:
                part = data[at : at + HEADER - len(self._record)]
                at += len(part)
                self._record += part
                if len(self._record) == HEADER:
                    self._kind, self._left = self._record[0], int.from_bytes(self._record[3:], "big")
                    self._record = b""
                    self._note_encrypted()
                continue
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if self._kind == HANDSHAKE:
                self._read(part)

    def _note_encrypted(self) -> None:
        """Reserve the maximum for client certificates: TLS 1.3 encrypts them, so their length is unknown."""
        if self._kind == APPLICATION_DATA and self._client_certificate:
            self.reserved = max(self.reserved, _allocated(LONGEST_CHAIN))

    def _read(self, part: bytes) -> None:
        at = 0
        while at < len(part):
            if self._body:
                skipped = min(self._body, len(part) - at)
                at += skipped
                self._body -= skipped
                continue
            header = part[at : at + MESSAGE_HEADER - len(self._start)]
            at += len(header)
            self._start += header
            if len(self._start) == MESSAGE_HEADER:
                self._body = int.from_bytes(self._start[1:], "big")
                self._start = b""
                if self._body <= LONGEST_HELLO:
                    self.reserved = max(self.reserved, _allocated(self._body))


def _allocated(size: int) -> int:
    """Return the bytes that OpenSSL allocates for a message of `size` bytes (crypto/buffer/buffer.c)."""
    return (size + 3) // 3 * 4
