"""Requests refused before a call: access control, body size and content coding."""

from __future__ import annotations

import ipaddress
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from daemons.accounts import ACCEPTED, BUSY
from daemons.web import basic

if TYPE_CHECKING:
    from daemons.accounts import Accounts

#: Key of the peer's IP address among the fields of a request.  It is not a valid field name (RFC 9110, section 5.1).
PEER = ":peer"

#: Characters not allowed in the quoted string of a realm.
_UNQUOTED = re.compile(r"[^ !#-\[\]-~]")


class RefusalError(Exception):
    """A request is refused with `status`.  The text is sent to the client; `fields` are response fields."""

    def __init__(self, status: int, text: str, *fields: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.fields = fields

    @property
    def body(self) -> bytes:
        """The text as one line."""
        return f"{self}\n".encode()


def check_access(
    fields: Mapping[str, str],
    users: Accounts | None,
    realm: str,
    *,
    scripts: bool = True,
    named: bool = True,
) -> str:
    """Return the name of the authenticated user, or "" if every peer may call.  Raises `RefusalError`.

    Args:
        fields: the request's fields by lower-case name, with the peer's IP address as `PEER`.
        scripts: whether browser scripts of the same origin may call.
        named: whether such scripts may also call if the Host field is a name other than localhost.

    Browsers send the Origin of a script (RFC 6454); other clients send none.  The same origin is trustworthy only if
    the host names of the site are known, since any name may resolve to the loopback address (DNS rebinding)."""
    user = "" if users is None else _authenticate(fields, users, realm)
    origin = fields.get("origin")
    if origin is not None and not scripts:
        raise RefusalError(403, "Forbidden: browser scripts may not call this server.")
    if origin is not None and origin.rpartition("//")[2] != fields.get("host"):
        raise RefusalError(403, "Forbidden: scripts of other origins may not call this server.")
    if origin is not None and not named and not _is_address(fields["host"]):
        raise RefusalError(403, "Forbidden: scripts may call this server by its address or as localhost only.")
    return user


def _authenticate(fields: Mapping[str, str], users: Accounts, realm: str) -> str:
    credentials = basic.parse_credentials(fields.get("authorization", ""))
    if credentials is not None:
        verdict = users.check(*credentials, fields.get(PEER, ""))
        if verdict.outcome is ACCEPTED:
            return verdict.user
        if verdict.outcome is BUSY:
            text = f"Service Unavailable: password verification is busy; retry in {verdict.retry_after} s."
            raise RefusalError(503, text, ("Retry-After", str(verdict.retry_after)))
    challenge = basic.challenge(_UNQUOTED.sub("", realm))
    raise RefusalError(401, "Unauthorized: a user name and a password are required.", ("WWW-Authenticate", challenge))


def _is_address(host: str) -> bool:
    """Return whether a Host field is an IP address or localhost, which DNS cannot redirect."""
    bare = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    with suppress(ValueError):
        return bool(ipaddress.ip_address(bare))
    return bare.lower() == "localhost"


def read_body(environ: Mapping[str, Any], limit: int) -> bytes:
    """Return the body of a request to a WSGI application.  Raises `RefusalError`."""
    text = environ.get("CONTENT_LENGTH") or ""
    if not (text.isascii() and text.isdecimal()):
        raise RefusalError(411, "Length Required: the Content-Length field is missing or malformed.")
    digits = text.lstrip("0")
    if len(digits) > len(str(limit)) or int(digits or "0") > limit:
        raise RefusalError(413, f"Content Too Large: the body exceeds {limit} bytes.")
    length = int(digits or "0")
    data: bytes = environ["wsgi.input"].read(length)
    if len(data) < length:
        raise RefusalError(400, "Bad Request: the body is shorter than Content-Length.")
    return data


def decompress(data: bytes, limit: int) -> bytes:
    """Return the decompressed content of gzip `data` (RFC 1952), holding at most `limit` + 1 bytes of it.  Raises
    `RefusalError`."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(data, limit + 1)
    except zlib.error:
        raise RefusalError(400, "Bad Request: the body is not valid gzip data.") from None
    if len(data) > limit:
        raise RefusalError(413, f"Content Too Large: the body exceeds {limit} bytes when decompressed.")
    if not unpacker.eof:
        raise RefusalError(400, "Bad Request: the gzip data is incomplete.")
    if unpacker.unused_data:
        raise RefusalError(400, "Bad Request: trailing bytes after the gzip data.")
    return data
