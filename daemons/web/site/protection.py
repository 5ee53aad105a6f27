"""Basic authentication (RFC 7617) for protected paths.

Each request carries the password, unencrypted, so it is requested only over TLS or from a local address.  Other clients
get 403, without the challenge that would have browsers send the password.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from daemons.accounts import ACCEPTED, BUSY, REFUSED, Accounts, Verdict
from daemons.accounts.users_file import checked
from daemons.framings.http import Request
from daemons.serving.conversation.peer import Peer
from daemons.serving.guards.limits import is_local
from daemons.settings.values import FieldType
from daemons.web import basic
from daemons.web.responses import ResponseCache, error
from daemons.web.site.prefix_map import Names, bare, names_of

#: A realm, in quotes or a single word, and a file.
_PROTECTED = re.compile(r"\"([ !#-\[\]-~]+)\"[ \t]+(\S.*)|([!#-\[\]-~]+)[ \t]+(\S.*)")

_OPEN = "<p>This page needs a password, which is accepted over <code>https://</code> only.\n"


class Realm(NamedTuple):
    """The name of a realm, and its users file."""

    name: str
    file: str


def _realm(text: str) -> Realm:
    match = _PROTECTED.fullmatch(text)
    if match is None:
        raise ValueError('not a realm and a file; write "The vault" conf/users')
    realm = Realm(match[1] or match[3], match[2] or match[4])
    checked(realm.file)
    return realm


REALM: FieldType[Realm] = FieldType(_realm, lambda realm: f'"{realm.name}" {realm.file}', "realm and file")


class Protection:
    """Authenticates the users of a realm, at and below `path`.  `insecure`: accept passwords without TLS, too."""

    def __init__(self, realm: Realm, path: str, *, insecure: bool) -> None:
        #: The names of `path`; empty for the whole site.
        self.names: Names = bare(names_of(path) or ())
        self._challenge = basic.challenge(realm.name)
        self._accounts = Accounts(realm.file)
        self._insecure = insecure

    def refusal(self, request: Request, cache: ResponseCache, peer: Peer) -> bytes | None:
        """Return the error response to a request without valid credentials; None if they are valid."""
        if not (peer.secure or self._insecure or is_local(peer.host)):
            request.user = ""
            return error(request, 403, cache, content=_OPEN)
        credentials = _credentials(request)
        verdict = Verdict(REFUSED) if credentials is None else self._accounts.check(*credentials, peer.host)
        request.user = verdict.user
        if verdict.outcome is ACCEPTED:
            return None
        if verdict.outcome is BUSY:
            return error(request, 503, cache, [("Retry-After", str(verdict.retry_after))])
        return error(request, 401, cache, [("WWW-Authenticate", self._challenge)])


def _credentials(request: Request) -> tuple[str, str] | None:
    """Return user name and password; None for missing, repeated or malformed credentials."""
    credentials = [value for name, value in request.headers if name.lower() == b"authorization"]
    return basic.parse_credentials(credentials[0].decode("latin-1")) if len(credentials) == 1 else None
