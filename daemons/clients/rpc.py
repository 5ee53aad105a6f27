"""What clients of all RPC protocols share: where a service is, how a request gets there, and what may go wrong.

Three things may, and they are told apart: the method said no, or failed (`RemoteFault`); somebody answered who does not
speak the protocol (`ProtocolError`); nobody answered (`daemons.clients.dial.NetworkError`).
"""

from __future__ import annotations

import base64
import http.client
import io
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote, urlsplit

from daemons.clients.dial import NetworkError, dial
from daemons.serving.address import Address

T = TypeVar("T")

#: Octets of the longest response that is read.
LONGEST = 16 * 1024 * 1024

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
    #: ``NAME:SECRET``, or nothing.
    credentials: str = ""
    timeout: float = 10.0
    cafile: Path | None = None

    @classmethod
    def of(cls, url: str, timeout: float = 10.0, cafile: Path | None = None) -> Place:
        """That of a URL.  Raises `ValueError`, saying what is expected."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{url} is no URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is no URL of a service; write http://HOST:PORT/PATH or https://…")
        secure = parts.scheme == "https"
        address = Address("tls" if secure else "tcp", host=parts.hostname, port=port or (443 if secure else 80))
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or not path.isprintable() or " " in path:
            raise ValueError(f"{url} is no URL: write other than visible ASCII as %xx")
        return cls(address, path, parts.netloc.rpartition("@")[2], credentials, timeout, cafile)

    def __str__(self) -> str:
        scheme = {"tcp": "http", "tls": "https"}.get(self.address.scheme)
        return f"{scheme}://{self.host}{self.path}" if scheme else f"{self.address}, {self.path}"


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
            head.append(f"Authorization: Basic {base64.b64encode(place.credentials.encode()).decode()}")
        head += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        with dial(place.address, place.timeout, place.cafile) as peer:
            try:
                sent.maybe = True
                peer.sendall("\r\n".join(head).encode("latin-1") + body)
                with http.client.HTTPResponse(_Readable(peer), method="POST") as response:  # type: ignore[arg-type]
                    response.begin()
                    heard = response.read(LONGEST + 1)
                    length = response.length
            except http.client.RemoteDisconnected as error:
                raise NetworkError(place.address, ConnectionResetError("closed without an answer")) from error
            except http.client.IncompleteRead as error:
                raise NetworkError(place.address, ConnectionResetError("closed in the middle of the answer")) from error
            except http.client.HTTPException as error:
                raise ProtocolError(f"{place} does not speak HTTP") from error
            except OSError as error:
                raise NetworkError(place.address, error) from error
        if len(heard) > LONGEST:
            raise ProtocolError(f"{place} has answered with more than {LONGEST} octets")
        if length:
            raise NetworkError(place.address, ConnectionResetError("closed in the middle of the answer"))
        if response.status != 200:
            raise ProtocolError(f"{place} has answered {response.status} {response.reason}")
        return heard


class Sent:
    """Whether a request may have got to somebody."""

    def __init__(self) -> None:
        self.maybe = False

    def __bool__(self) -> bool:
        return self.maybe


class _Readable:
    """What `http.client.HTTPResponse` wants of a socket."""

    def __init__(self, peer: Any) -> None:
        self._peer = peer

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Raw(self._peer.recv))


class _Raw(io.RawIOBase):
    def __init__(self, recv: Callable[[int], bytes]) -> None:
        self._recv = recv

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)
