"""Base of the RPC clients: the endpoint, requests over HTTP, retries and errors.

Three errors are distinguished: the method returned a fault (`RemoteFault`), the response is not valid in the protocol
(`ProtocolError`), and there was no response (`daemons.clients.net.dial.NetworkError`).
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
from daemons.clients.net.total_deadline import ReplyDeadline
from daemons.clients.rpc.call_arguments import without_password
from daemons.framings import Incomplete, Oversize
from daemons.framings.http import ResponseDecoder, ResponseHead, ResponseLimits
from daemons.serving.listening.address import Address

if TYPE_CHECKING:
    from daemons.clients.net.tls_socket import TLSClientSocket

#: Maximum bytes of a response.
LONGEST = 16 * 1024 * 1024

#: Bytes per recv(2).
RECEIVE = 64 * 1024

#: Seconds before the first retry, and the maximum.  The pause doubles with each retry and is randomly shortened by up
#: to a half, so that clients that failed together do not retry together.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

#: A method's name and its parameters.
Call = tuple[str, Sequence[Any]]


class RemoteFault(Exception):
    """The server returned a fault: the method failed or does not exist.  `code` is defined by the protocol."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"fault {code}: {text}")
        self.code = code


class ProtocolError(Exception):
    """The server's response is not valid in the protocol."""


@dataclass(frozen=True)
class Endpoint:
    """The location of a service, and the credentials, timeout and CAs for it."""

    address: Address
    path: str = "/"
    #: The value of the field Host.
    host: str = "localhost"
    #: ``NAME:SECRET``, or empty; bytes that are not UTF-8 are surrogate escapes.
    credentials: str = ""
    timeout: float = 10.0
    cafile: Path | None = None

    @classmethod
    def of(cls, url: str, timeout: float = 10.0, cafile: Path | None = None) -> Endpoint:
        """Return the endpoint for a URL.  Raises `ValueError`."""
        shown = without_password(url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{shown} is not a valid URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{shown} is not the URL of a service; expected http://HOST:PORT/PATH or https://…")
        if port == 0:
            raise ValueError(f"{shown} is not a valid URL: expected a port of 1 to 65535")
        host, authority = _host_of(shown, parts.hostname)
        secure = parts.scheme == "https"
        address = Address("tls" if secure else "tcp", host=host, port=port or (443 if secure else 80))
        user, password = (unquote(text or "", errors="surrogateescape") for text in (parts.username, parts.password))
        credentials = f"{user}:{password}" if user else ""
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or not path.isprintable() or " " in path:
            raise ValueError(f"{shown} is not a valid URL: write characters other than visible ASCII as %xx")
        return cls(address, path, authority + (f":{port}" if port else ""), credentials, timeout, cafile)

    def __str__(self) -> str:
        scheme = {"tcp": "http", "tls": "https"}.get(self.address.scheme)
        return f"{scheme}://{self.host}{self.path}" if scheme else f"{self.address}, {self.path}"


def _host_of(url: str, host: str) -> tuple[str, str]:
    """Return the host to connect to, and the host as in the field Host.  Raises `ValueError`."""
    if ":" in host:
        # The zone of an address is local to this machine (RFC 6874, section 2, and RFC 9110, section 7.2).
        return host.replace("%25", "%", 1), f"[{host.partition('%')[0]}]"
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"{url} is not a valid URL: {host} is not a host name") from None
    return host, host


class Caller(ABC):
    """Client of one service, over HTTP.  `post` sends a request body and returns the response body; the subclasses
    implement the protocols."""

    #: The media type of requests.
    media: ClassVar[str]

    def __init__(
        self, endpoint: Endpoint, *, retries: int = 0, idempotent: Collection[str] = (), all_idempotent: bool = False
    ):
        """`retries` is the number of attempts after the first.  A request that was certainly not sent, since the
        connection failed, is always retried.  A request that may have been executed is retried only if all its methods
        are in `idempotent`, or with `all_idempotent`."""
        self.endpoint = endpoint
        self._retries = retries
        self._idempotent = idempotent
        self._all_idempotent = all_idempotent

    @abstractmethod
    def call(self, method: str, params: Sequence[Any]) -> Any:
        """Return the result of a call.  Raises `RemoteFault`, `ProtocolError`, `NetworkError`, and `ValueError` for
        parameters that cannot be encoded."""

    @abstractmethod
    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Return the results of several calls made in one request, with a `RemoteFault` for each call that failed."""

    def list_methods(self) -> list[tuple[str, str, str]]:
        """Return the name, the signatures and the description of each method."""
        raise ProtocolError("this protocol cannot list methods")

    def repeatable(self, *methods: str) -> bool:
        """Return whether all these methods may be called again."""
        return self._all_idempotent or all(name in self._idempotent for name in methods)

    def post(self, body: bytes, repeatable: bool) -> bytes:
        """Send a request, with retries if it is `repeatable`, and return the body of the response.  Raises
        `ProtocolError` and `NetworkError`."""
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
        endpoint = self.endpoint
        head = [f"POST {endpoint.path} HTTP/1.1", f"Host: {endpoint.host}", f"Content-Type: {self.media}"]
        if endpoint.credentials:
            credentials = endpoint.credentials.encode("utf-8", "surrogateescape")
            head.append(f"Authorization: Basic {base64.b64encode(credentials).decode()}")
        head += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        with dial(endpoint.address, endpoint.timeout, endpoint.cafile) as peer:
            try:
                sent.maybe = True
                try:
                    peer.sendall("\r\n".join(head).encode("latin-1") + body)
                except ConnectionError:
                    # The server may have sent an error response before it closed; otherwise `_receive` raises.
                    pass
                return self._receive(peer)
            except OSError as error:
                raise NetworkError(endpoint.address, error) from error

    def _receive(self, peer: socket.socket | TLSClientSocket) -> bytes:
        """Return the body of a response with status 200.  Raises `ProtocolError`, `NetworkError` and `OSError`."""
        endpoint = self.endpoint
        # "A user agent that receives an obs-fold […] MUST replace each received obs-fold with one or more SP octets"
        # (RFC 9112, section 5.2).
        decoder = ResponseDecoder("POST", ResponseLimits(body=LONGEST), unfold=True)
        body = bytearray()
        deadline = ReplyDeadline(endpoint.timeout)
        while not decoder.complete:
            deadline.check(len(body))
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
                    raise NetworkError(endpoint.address, ConnectionResetError(f"closed the connection {error}"))
                case Oversize() as error:
                    raise ProtocolError(f"{endpoint} sent too large a response: {error}")
                case error if error is not None:
                    raise ProtocolError(f"{endpoint} does not speak HTTP: {error}")
        return bytes(body)

    def _check(self, head: ResponseHead) -> None:
        """Raise `ProtocolError` unless the status is 200 and the body has no content coding."""
        if head.status != 200:
            raise ProtocolError(f"{self.endpoint} responded {head.status} {head.reason.decode('latin-1')}".rstrip())
        for name, value in head.fields:
            if name.lower() == b"content-encoding" and value.lower() not in (b"", b"identity"):
                raise ProtocolError(f"{self.endpoint} sent an unrequested content coding: {value.decode('latin-1')}")


class Sent:
    """Whether a request may have reached the server; set by `Caller._post`."""

    def __init__(self) -> None:
        self.maybe = False

    def __bool__(self) -> bool:
        return self.maybe
