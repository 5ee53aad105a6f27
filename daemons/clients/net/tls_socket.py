"""The client's end of TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from daemons.clients.net.send_and_receive import send_and_receive
from daemons.clients.net.total_deadline import Due
from daemons.serving.tls.context import client_context

#: Octets per recv(2), and per record.
SIZE = 16 * 1024

#: X509_V_ERR_…: openssl-verification-options(1), include/openssl/x509_vfy.h.
_EXPIRED, _SELF_SIGNED, _SELF_SIGNED_CA, _NO_ISSUER, _NO_ISSUER_OF_LEAF = 10, 18, 19, 20, 21


class UntrustedError(OSError):
    """The peer's certificate does not verify; the text says why."""


class TLSClientSocket:
    """A connected socket, encrypted, with the few methods of a socket that a client needs.

    `host` is whom the certificate must be for, and what the peer is told it is asked for (SNI, RFC 6066);
    `cafile` has the CA to trust, None for those of this system.  `protocols` are offered by ALPN, RFC 7301.
    With ``verify=False`` it takes anybody for anybody: to look at them, never to tell them anything.

    Unlike `ssl.SSLSocket` it can close its own half, and go on to hear what the peer has to say.  Raises
    `OSError`, whose text says why, where the peer is not who it should be, and where the connection ends
    without close_notify: somebody else may have ended it then."""

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
        context = client_context(cafile, verify=verify)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=without_zone(host))
        try:
            due = Due(connected.gettimeout())
            while not self._shaken():
                self._fill(due)
        except ssl.SSLCertVerificationError as error:
            self._flush()  # tell the peer
            raise UntrustedError(f"the certificate does not verify: {why(error, cafile)}") from error
        except ssl.SSLError as error:
            raise OSError(f"the handshake failed: {_reason(error)}") from error

    @property
    def session(self) -> ssl.SSLObject:
        """What was agreed on, and the peer's certificate."""
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
                yield from self._decrypted()

    def _decrypted(self) -> Iterator[bytes]:
        while self._incoming.pending:
            try:
                yield self._tls.read(SIZE)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return

    def recv(self, size: int) -> bytes:
        """What comes next; ``b""`` when the peer has said goodbye.  Raises `TimeoutError` if a record is not complete
        within the timeout of the socket."""
        due = Due(self._socket.gettimeout())
        while True:
            try:
                data = self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill(due)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise ConnectionResetError(f"the peer broke off: {_reason(error)}") from error
            else:
                return data

    def shutdown(self, how: int) -> None:
        """Close our half (`socket.SHUT_WR`): say goodbye, and leave the other half open."""
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

    def _shaken(self) -> bool:
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

    def _fill(self, due: Due) -> None:
        due.check(0)
        data = self._socket.recv(SIZE)
        if not data:
            raise ConnectionAbortedError("the connection ended in the middle of the conversation")
        self._incoming.write(data)


def without_zone(host: str) -> str:
    """Return a host as certificates name it: the zone of an IPv6 address has a meaning on this machine alone (RFC
    4007, section 11.2)."""
    address, percent, _ = host.partition("%")
    return address if percent and ":" in address else host


def why(error: ssl.SSLCertVerificationError, cafile: Path | None) -> str:
    """What is wrong with a certificate, where the CAs in `cafile` were trusted, or those of this system."""
    message = error.verify_message.rstrip(".")
    match error.verify_code:
        case code if code == _EXPIRED:
            return "it has expired"
        case code if code == _SELF_SIGNED:
            return "it is self-signed, not signed by a CA; to trust it all the same, name it with --cafile"
        case code if code in (_SELF_SIGNED_CA, _NO_ISSUER, _NO_ISSUER_OF_LEAF):
            trusted = "known to this system" if cafile is None else f"in {cafile}"
            return f"no CA {trusted} has signed it; name the right one with --cafile"
        case _ if "mismatch" in message:
            return f"wrong name: {message}"
        case _:
            return message


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
