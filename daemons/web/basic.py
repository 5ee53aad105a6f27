"""Basic authentication, RFC 7617: the challenge and the credentials."""

from __future__ import annotations

import base64
import re

from daemons.accounts.hashes import DECOMPOSED, LONGEST_NAME, LONGEST_PASSWORD

#: Characters of the longest credentials that are decoded: base64 of the longest name and password, and a colon.
LONGEST = -(-(DECOMPOSED * (LONGEST_NAME + LONGEST_PASSWORD) + 1) // 3) * 4

_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE | re.ASCII)


def challenge(realm: str) -> str:
    """Return the value of WWW-Authenticate.  `realm` must not contain quotes or backslashes."""
    return f'Basic realm="{realm}", charset="UTF-8"'


def parse_credentials(authorization: str) -> tuple[str, str] | None:
    """Return user name and password from the value of an Authorization field.

    Return None for other schemes, for credentials that are not base64 of UTF-8, and for credentials longer than any
    user's, which are not decoded."""
    match = _BASIC.fullmatch(authorization)
    if match is None or len(match[1]) > LONGEST:
        return None
    try:
        name, colon, password = base64.b64decode(match[1], validate=True).decode("utf-8").partition(":")
    except ValueError:  # not base64, or not UTF-8
        return None
    return (name, password) if colon else None
