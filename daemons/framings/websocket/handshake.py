"""The opening handshake of a WebSocket (RFC 6455, section 4), for a server and for a client.

A server calls `read_handshake` with a request, decides whether it accepts the Origin and a subprotocol, and sends
`accept_handshake`.  A client sends `request_handshake`, reads the response with ``ResponseDecoder("GET",
upgrade=True)``, and calls `check_handshake`.  The bytes after either head are frames.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from daemons.framings.http.grammar import TOKEN, list_members
from daemons.framings.http.head import Request
from daemons.framings.http.response_head import ResponseHead

#: RFC 6455, section 1.3.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#: The version of the protocol (RFC 6455, section 4.1).
VERSION = b"13"

#: Sixteen bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_TOKEN = re.compile(TOKEN)

#: A field value without control characters, and a target as `daemons.framings.http` accepts it.
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_TARGET = re.compile(r"/[!\"$-~]*")

Field = tuple[str, str]


class HandshakeError(Exception):
    """The handshake is refused.  The text is for the log.

    For a server, `status` and `fields` are those of its response.  For a client, which closes the connection, `status`
    is that of the response it received.
    """

    def __init__(self, text: str, status: int = 400, fields: Sequence[Field] = ()) -> None:
        super().__init__(text)
        #: For a server: 400; 405 if the method is not GET; 426 if the request has no Upgrade, or has another version.
        self.status = status
        #: Fields that the response must have.
        self.fields = tuple(fields)


class Handshake(NamedTuple):
    """A valid request of a client."""

    key: bytes
    #: Offered subprotocols, in the client's order of preference.
    subprotocols: tuple[str, ...]
    #: Origin, which a browser sends; empty if absent.  A server that authenticates by cookies must check it, since any
    #: page can open a WebSocket to any server (RFC 6455, section 10.2).
    origin: str

    def choose(self, supported: Iterable[str]) -> str:
        """Return the first offered subprotocol that is supported; empty if there is none."""
        known = frozenset(supported)
        return next((name for name in self.subprotocols if name in known), "")


def read_handshake(request: Request) -> Handshake:
    """Check the request of a client (RFC 6455, section 4.2.1).  Raises `HandshakeError`.

    Host was checked by the decoder of the request.  Offered extensions are ignored, so none is accepted.
    """
    if request.method != "GET":
        raise HandshakeError("the method is not GET", 405, [("Allow", "GET")])
    if request.version < (1, 1):
        raise HandshakeError("the version is HTTP/1.0; HTTP/1.1 is expected")
    if b"websocket" not in list_members(_values(request.headers, b"upgrade")):
        raise _upgrade_required("Upgrade is not websocket")
    if b"upgrade" not in list_members(_values(request.headers, b"connection")):
        raise HandshakeError("Connection does not name Upgrade")
    versions = _values(request.headers, b"sec-websocket-version")
    if versions != [VERSION]:
        if len(versions) > 1:
            raise HandshakeError("more than one Sec-WebSocket-Version")
        raise _upgrade_required("Sec-WebSocket-Version is not 13")
    keys = _values(request.headers, b"sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise HandshakeError("Sec-WebSocket-Key is not one value of 16 bytes in base64")
    if request.body:
        # A reader that ignores the length would take the body for frames.
        raise HandshakeError("a request with a body; none is expected")
    origins = _values(request.headers, b"origin")
    if len(origins) > 1:
        raise HandshakeError("more than one Origin")
    offered = _values(request.headers, b"sec-websocket-protocol")
    return Handshake(keys[0], _subprotocols(offered), b"".join(origins).decode("latin-1"))


def accept_handshake(handshake: Handshake, subprotocol: str = "", fields: Sequence[Field] = ()) -> bytes:
    """Return the response that accepts the handshake, with further `fields`.

    Raises `ValueError` for a subprotocol that was not offered, and for a field that is not valid.
    """
    if subprotocol and subprotocol not in handshake.subprotocols:
        raise ValueError(f"subprotocol {subprotocol!r}; one of {handshake.subprotocols} is expected")
    own = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    own.append(("Sec-WebSocket-Accept", _accept(handshake.key).decode("ascii")))
    if subprotocol:
        own.append(("Sec-WebSocket-Protocol", subprotocol))
    return _head("HTTP/1.1 101 Switching Protocols", [*own, *fields])


def new_key() -> bytes:
    """Return a random key for `request_handshake`."""
    return b64encode(secrets.token_bytes(16))


def request_handshake(
    host: str,
    target: str,
    key: bytes,
    *,
    subprotocols: Sequence[str] = (),
    origin: str = "",
    fields: Sequence[Field] = (),
) -> bytes:
    """Return the request of a client (RFC 6455, section 4.1).

    host
        Value of Host: a name or an address, and the port unless it is the default one.
    target
        Path and query, which begin with a slash.
    key
        From `new_key`; a new one for each request.

    Raises `ValueError` for a value that is not valid.
    """
    if not _TARGET.fullmatch(target):
        raise ValueError(f"target {target!r}; a path of visible ASCII characters is expected")
    if not _KEY.fullmatch(key):
        raise ValueError("key: 16 bytes in base64 are expected")
    own = [("Host", host), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    own += [("Sec-WebSocket-Key", key.decode("ascii")), ("Sec-WebSocket-Version", VERSION.decode("ascii"))]
    if origin:
        own.append(("Origin", origin))
    if subprotocols:
        if len(set(subprotocols)) < len(subprotocols) or not all(_is_token(name) for name in subprotocols):
            raise ValueError(f"subprotocols {subprotocols!r}; different tokens are expected")
        own.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    return _head(f"GET {target} HTTP/1.1", [*own, *fields])


def check_handshake(head: ResponseHead, key: bytes, subprotocols: Sequence[str] = ()) -> str:
    """Check the response to `request_handshake` (RFC 6455, section 4.1); return the subprotocol, empty if none.

    Raises `HandshakeError`, also for a status other than 101, which may be a redirect or a request to authenticate.
    """
    chosen = _values(head.fields, b"sec-websocket-protocol")
    if head.status != 101:
        text = f"the server responded {head.status}; 101 is expected"
    elif list_members(_values(head.fields, b"upgrade")) != {b"websocket"}:
        text = "Upgrade is not websocket"
    elif b"upgrade" not in list_members(_values(head.fields, b"connection")):
        text = "Connection does not name Upgrade"
    elif _values(head.fields, b"sec-websocket-accept") != [_accept(key)]:
        text = "Sec-WebSocket-Accept does not match the key"
    elif list_members(_values(head.fields, b"sec-websocket-extensions")):
        text = "the server accepted an extension; none was offered"
    elif chosen and (len(chosen) > 1 or chosen[0].decode("latin-1") not in subprotocols):
        text = "the server chose a subprotocol that was not offered"
    else:
        return b"".join(chosen).decode("latin-1")
    raise HandshakeError(text, head.status)


def _accept(key: bytes) -> bytes:
    return b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def _upgrade_required(text: str) -> HandshakeError:
    # A 426 names the protocol (RFC 9110, section 15.5.22), and its versions (RFC 6455, section 4.2.2).
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", VERSION.decode("ascii"))]
    return HandshakeError(text, 426, fields)


def _values(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in fields if key.lower() == name]


def _subprotocols(values: Iterable[bytes]) -> tuple[str, ...]:
    """Return the members of Sec-WebSocket-Protocol in order, of which case matters.  Raises `HandshakeError`."""
    names = [name for value in values for part in value.split(b",") if (name := part.strip(b" \t"))]
    if len(set(names)) < len(names) or not all(_TOKEN.fullmatch(name) for name in names):
        raise HandshakeError("Sec-WebSocket-Protocol is not a list of different tokens")
    return tuple(name.decode("ascii") for name in names)


def _is_token(name: str) -> bool:
    return name.isascii() and _TOKEN.fullmatch(name.encode("ascii")) is not None


def _head(line: str, fields: Iterable[Field]) -> bytes:
    """Return a head.  Raises `ValueError` for a field that could end its line or begin another."""
    lines = [line]
    for name, value in fields:
        if not _is_token(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"field {name!r}: a token, and a value without control characters, are expected")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")
