"""What clients of all RPC protocols share: where a service is, how a request gets there, and what may go wrong.

Three things may, and they are told apart: the method said no, or failed (`RemoteFault`); somebody answered who does not
speak the protocol (`ProtocolError`); nobody answered (`daemons.clients.net.dial.NetworkError`).
"""

from __future__ import annotations

import base64
import random
import socket
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from daemons.clients.net.dial import NetworkError, dial
from daemons.clients.net.total_deadline import Due
from daemons.clients.rpc.call_arguments import without_password
from daemons.framings import Incomplete, Oversize
from daemons.framings.http import ResponseDecoder, ResponseHead, ResponseLimits
from daemons.serving.listening.address import Address

if TYPE_CHECKING:
    from daemons.clients.net.tls_socket import TLSClientSocket

#: Octets of the longest response that is read.
LONGEST = 16 * 1024 * 1024

#: Bytes per recv(2).
RECEIVE = 64 * 1024

#: Seconds before the second attempt; before each other twice as many, up to the most.  Up to half of it less, so that
#: those who failed together do not come back together.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

#: A method's name and its parameters.
Call = tuple[str, Sequence[Any]]


class RemoteFault(Exception):
    """The method was called, and said no or failed; or there is no such method.  `code` is the protocol's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"fault {code}: {text}")
        self.code = code


class ProtocolError(Exception):
    """Somebody is there, and what he says is no answer."""


@dataclass(frozen=True)
class Place:
    """Where a service is, and how we say who we are."""

    address: Address
    path: str = "/"
    #: For Host.
    host: str = "localhost"
    #: ``NAME:SECRET``, or nothing; bytes that are not UTF-8 are surrogates.
    credentials: str = ""
    timeout: float = 10.0
    cafile: Path | None = None

    @classmethod
    def of(cls, url: str, timeout: float = 10.0, cafile: Path | None = None) -> Place:
        """That of a URL.  Raises `ValueError`, saying what is expected."""
        shown = without_password(url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{shown} is no URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{shown} is no URL of a service; write http://HOST:PORT/PATH or https://…")
        if port == 0:
            raise ValueError(f"{shown} is no URL: a service has a port of 1 to 65535")
        host, authority = _host_of(shown, parts.hostname)
        secure = parts.scheme == "https"
        address = Address("tls" if secure else "tcp", host=host, port=port or (443 if secure else 80))
        user, password = (unquote(text or "", errors="surrogateescape") for text in (parts.username, parts.password))
        credentials = f"{user}:{password}" if user else ""
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or not path.isprintable() or " " in path:
            raise ValueError(f"{shown} is no URL: write other than visible ASCII as %xx")
        return cls(address, path, authority + (f":{port}" if port else ""), credentials, timeout, cafile)

    def __str__(self) -> str:
        scheme = {"tcp": "http", "tls": "https"}.get(self.address.scheme)
        return f"{scheme}://{self.host}{self.path}" if scheme else f"{self.address}, {self.path}"


def _host_of(url: str, host: str) -> tuple[str, str]:
    """The host to connect to, and how Host has it.  Raises `ValueError`."""
    if ":" in host:
        # The zone of an address means something on this machine alone (RFC 6874, section 2, and RFC 9110, section 7.2).
        return host.replace("%25", "%", 1), f"[{host.partition('%')[0]}]"
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"{url} is no URL: {host} is no host name") from None
    return host, host


class Caller(ABC):
    """One protocol's client of one service.  `post` sends a request; what is in it the subclasses know."""

    #: For Content-Type.
    media: ClassVar[str]

    def __init__(
        self, place: Place, *, retries: int = 0, idempotent: Collection[str] = (), all_idempotent: bool = False
    ):
        """`retries` are attempts after the first, `idempotent` the methods that may be called again when nobody knows
        whether they were called; what was certainly not sent, since nobody was there, is always sent again."""
        self.place = place
        self._retries = retries
        self._idempotent = idempotent
        self._all_idempotent = all_idempotent

    @abstractmethod
    def call(self, method: str, params: Sequence[Any]) -> Any:
        """The result.  Raises `RemoteFault`, `ProtocolError`, `NetworkError`, and `ValueError` for what cannot be
        said."""

    @abstractmethod
    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """The results of several calls in one request, a `RemoteFault` in the place of each that failed."""

    def listed(self) -> list[tuple[str, str, str]]:
        """Of each method the name, the ways to call it, and what it does."""
        raise ProtocolError("this protocol cannot tell which methods there are")

    def repeatable(self, *methods: str) -> bool:
        """Whether all these may be called again."""
        return self._all_idempotent or all(name in self._idempotent for name in methods)

    def post(self, body: bytes, repeatable: bool) -> bytes:
        """The body of the response.  Raises `ProtocolError` for one that is none, `NetworkError`."""
        for attempt in range(self._retries + 1):
            sent = Sent()
            try:
                return self._post(body, sent)
            except NetworkError:
                if attempt == self._retries or (sent and not repeatable):
                    raise
            sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1))
        raise AssertionError("an attempt returns or raises")

    def _post(self, body: bytes, sent: Sent) -> bytes:
        place = self.place
        head = [f"POST {place.path} HTTP/1.1", f"Host: {place.host}", f"Content-Type: {self.media}"]
        if place.credentials:
            octets = place.credentials.encode("utf-8", "surrogateescape")
            head.append(f"Authorization: Basic {base64.b64encode(octets).decode()}")
        head += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        with dial(place.address, place.timeout, place.cafile) as peer:
            try:
                sent.maybe = True
                try:
                    peer.sendall("\r\n".join(head).encode("latin-1") + body)
                except ConnectionError:
                    # The server may have sent the reason before it closed; else `_receive` raises.
                    pass
                return self._receive(peer)
            except OSError as error:
                raise NetworkError(place.address, error) from error

    def _receive(self, peer: socket.socket | TLSClientSocket) -> bytes:
        """The body of a response of 200.  Raises `ProtocolError`, `NetworkError`, `OSError`."""
        place = self.place
        # "A user agent that receives an obs-fold […] MUST replace each received obs-fold with one or more SP octets"
        # (RFC 9112, section 5.2).
        decoder = ResponseDecoder("POST", ResponseLimits(body=LONGEST), unfold=True)
        body = bytearray()
        due = Due(place.timeout)
        while not decoder.complete:
            due.check(len(body))
            if data := peer.recv(RECEIVE):
                for event in decoder.decode(data):
                    if isinstance(event, ResponseHead):
                        self._check(event)
                    else:
                        body += event
            else:
                decoder.finish()
            match decoder.error:
                case Incomplete() as error:
                    raise NetworkError(place.address, ConnectionResetError(f"closed the connection {error}"))
                case Oversize() as error:
                    raise ProtocolError(f"{place} has sent too large a response: {error}")
                case error if error is not None:
                    raise ProtocolError(f"{place} does not speak HTTP: {error}")
        return bytes(body)

    def _check(self, head: ResponseHead) -> None:
        """Refuse a head behind which no answer can be.  Raises `ProtocolError`."""
        if head.status != 200:
            raise ProtocolError(f"{self.place} has answered {head.status} {head.reason.decode('latin-1')}".rstrip())
        for name, value in head.fields:
            if name.lower() == b"content-encoding" and value.lower() not in (b"", b"identity"):
                raise ProtocolError(f"{self.place} has encoded its response ({value.decode('latin-1')}), unasked")


class Sent:
    """Whether a request may have got to somebody."""

    def __init__(self) -> None:
        self.maybe = False

    def __bool__(self) -> bool:
        return self.maybe
