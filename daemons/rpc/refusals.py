"""Requests that come to no call, and what is said to them: to who may not call, and to what is too long."""

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

#: Stands among the fields of a request for the IP address of the peer.  No field can have that name (RFC 9110, section
#: 5.1).
PEER = ":peer"

#: What must not stand between the quotes of a realm.
_UNQUOTED = re.compile(r"[^ !#-\[\]-~]")


class RefusalError(Exception):
    """A request is refused; the text is for who sent it, and `fields` are those of the response."""

    def __init__(self, status: int, text: str, *fields: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.fields = fields

    @property
    def body(self) -> bytes:
        """The text, as a line."""
        return f"{self}\n".encode()


def check_visitor(
    fields: Mapping[str, str],
    users: Accounts | None,
    realm: str,
    *,
    scripts: bool = True,
    named: bool = True,
) -> str:
    """Return the user who calls, or nothing where every peer may call; raises `RefusalError` for one that may not.
    `fields` are those of its request, by names in small letters, and its IP address, as `PEER`; `scripts` says whether
    those of the same site may call, and `named` whether also where the site has a name other than localhost.

    A browser says where a script comes from (RFC 6454), and nobody else has an origin.  That of the same site is to be
    believed where somebody knows which names the site has: any name may be led to the loopback (DNS rebinding)."""
    user = "" if users is None else _authenticate(fields, users, realm)
    origin = fields.get("origin")
    if origin is not None and not scripts:
        raise RefusalError(403, "A browser's scripts may not call this.")
    if origin is not None and origin.rpartition("//")[2] != fields.get("host"):
        raise RefusalError(403, "Scripts of other sites may not call this.")
    if origin is not None and not named and not _is_address(fields["host"]):
        raise RefusalError(403, "Scripts of a site with a name may not call this.")
    return user


def _authenticate(fields: Mapping[str, str], users: Accounts, realm: str) -> str:
    shown = basic.parse_credentials(fields.get("authorization", ""))
    if shown is not None:
        verdict = users.check(*shown, fields.get(PEER, ""))
        if verdict.outcome is ACCEPTED:
            return verdict.user
        if verdict.outcome is BUSY:
            text = f"Service Unavailable: names and secrets are verified again in {verdict.retry_after} s."
            raise RefusalError(503, text, ("Retry-After", str(verdict.retry_after)))
    challenge = basic.challenge(_UNQUOTED.sub("", realm))
    raise RefusalError(401, "Unauthorized: a name and a secret are expected.", ("WWW-Authenticate", challenge))


def _is_address(host: str) -> bool:
    """Whether a Host is one that nobody can lead elsewhere."""
    bare = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    with suppress(ValueError):
        return bool(ipaddress.ip_address(bare))
    return bare.lower() == "localhost"


def read_body(environ: Mapping[str, Any], limit: int) -> bytes:
    """The body of a request to a WSGI application.  Raises `RefusalError`."""
    text = environ.get("CONTENT_LENGTH") or ""
    if not (text.isascii() and text.isdecimal()):
        raise RefusalError(411, "How long is that?")
    digits = text.lstrip("0")
    if len(digits) > len(str(limit)) or int(digits or "0") > limit:
        raise RefusalError(413, f"That is longer than {limit} octets.")
    length = int(digits or "0")
    data: bytes = environ["wsgi.input"].read(length)
    if len(data) < length:
        raise RefusalError(400, "The end of that is missing.")
    return data


def unpacked(data: bytes, limit: int) -> bytes:
    """What is in `data`, which is gzip (RFC 1952), without ever holding more than `limit` octets of it.  Raises
    `RefusalError`."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(data, limit + 1)
    except zlib.error:
        raise RefusalError(400, "That is not gzip.") from None
    if len(data) > limit:
        raise RefusalError(413, f"That is longer than {limit} octets when it is unpacked.")
    if not unpacker.eof:
        raise RefusalError(400, "The end of that gzip is missing.")
    if unpacker.unused_data:
        raise RefusalError(400, "Bad Request: bytes behind the end of the gzip data.")
    return data
