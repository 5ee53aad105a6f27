"""The client side of TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from daemons.clients.net.send_and_receive import send_and_receive
from daemons.clients.net.total_deadline import ReplyDeadline
from daemons.serving.tls.context import client_context

#: Bytes per recv(2), and per TLS record.
SIZE = 16 * 1024

#: X509_V_ERR_…: openssl-verification-options(1), include/openssl/x509_vfy.h.
_EXPIRED, _SELF_SIGNED, _SELF_SIGNED_CA, _NO_ISSUER, _NO_ISSUER_OF_LEAF = 10, 18, 19, 20, 21


class UntrustedError(OSError):
    """The peer's certificate does not verify; the message gives the reason."""


class TLSClientSocket:
    """A TLS connection on a connected socket, with the few socket methods that a client needs.

    The certificate must be valid for `host`, which is also sent as the server name (SNI, RFC 6066); `cafile` has the
    CAs to trust, None for those of the system.  `protocols` are offered by ALPN (RFC 7301).  With ``verify=False`` any
    certificate is accepted: for inspection only, no data may be sent.

    Unlike `ssl.SSLSocket`, it can close its sending side and still receive.  Raises `UntrustedError` if the certificate
    does not verify, and `OSError` if the connection ends without close_notify, since it may have been truncated."""

    def __init__(
        self,
        connected: socket.socket,
        host: str,
        cafile: Path | None,
        *,
        protocols: Sequence[str] = (),
        verify: bool = True,
    ) -> None:
        self._socket = connected
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        #: Bytes decrypted by `shutdown` that `recv` returns next.
        self._decrypted = b""
        context = client_context(cafile, verify=verify)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=without_zone(host))
        try:
            deadline = ReplyDeadline(connected.gettimeout())
            while not self._do_handshake():
                self._fill(deadline)
        except ssl.SSLCertVerificationError as error:
            self._flush()  # sends the alert
            raise UntrustedError(f"the certificate does not verify: {verification_error(error, cafile)}") from error
        except ssl.SSLError as error:
            raise OSError(f"the handshake failed: {_reason(error)}") from error

    @property
    def session(self) -> ssl.SSLObject:
        """The negotiated parameters and the peer's certificate."""
        return self._tls

    def sendall(self, data: bytes) -> None:
        for start in range(0, len(data), SIZE):
            self._tls.write(data[start : start + SIZE])
        self._flush()

    def send_and_receive(self, data: bytes) -> Iterator[bytes]:
        """Send all of `data`; yield the bytes received meanwhile."""
        for start in range(0, len(data), SIZE):
            self._tls.write(data[start : start + SIZE])
            for received in send_and_receive(self._socket, self._outgoing.read(), self._socket.gettimeout() or 0):
                self._incoming.write(received)
                yield from self._decrypt()

    def _decrypt(self) -> Iterator[bytes]:
        while self._incoming.pending:
            try:
                yield self._tls.read(SIZE)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes; ``b""`` after the peer's close_notify.  Raises `TimeoutError` if a record is not
        complete within the timeout of the socket."""
        if self._decrypted:
            data, self._decrypted = self._decrypted[:size], self._decrypted[size:]
            return data
        deadline = ReplyDeadline(self._socket.gettimeout())
        while True:
            try:
                data = self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill(deadline)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise ConnectionResetError(f"the connection failed: {_reason(error)}") from error
            else:
                return data

    def shutdown(self, how: int) -> None:
        """Close the sending side (`socket.SHUT_WR`) with close_notify; the receiving side stays open."""
        # unwrap() fails if it finds data, such as a greeting that has arrived together with the end of the handshake.
        self._decrypted += b"".join(self._decrypt())
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> TLSClientSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do_handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        return True

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._socket.sendall(data)

    def _fill(self, deadline: ReplyDeadline) -> None:
        deadline.check(0)
        data = self._socket.recv(SIZE)
        if not data:
            raise ConnectionAbortedError("the connection ended without close_notify")
        self._incoming.write(data)


def without_zone(host: str) -> str:
    """Return a host without the zone of an IPv6 address, which is local to this machine (RFC 4007, section 11.2) and
    never part of a certificate."""
    address, percent, _ = host.partition("%")
    return address if percent and ":" in address else host


def verification_error(error: ssl.SSLCertVerificationError, cafile: Path | None) -> str:
    """Return why a certificate does not verify; `cafile` is the file of the trusted CAs, None for the system's."""
    message = error.verify_message.rstrip(".")
    match error.verify_code:
        case code if code == _EXPIRED:
            return "it has expired"
        case code if code == _SELF_SIGNED:
            return "it is self-signed, not signed by a CA; to trust it, name it with --cafile"
        case code if code in (_SELF_SIGNED_CA, _NO_ISSUER, _NO_ISSUER_OF_LEAF):
            trusted = "known to this system" if cafile is None else f"in {cafile}"
            return f"no CA {trusted} has signed it; name the right one with --cafile"
        case _ if "mismatch" in message:
            return f"wrong name: {message}"
        case _:
            return message


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
