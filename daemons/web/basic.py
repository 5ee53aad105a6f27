"""Basic authentication, RFC 7617: how it is asked for, and what is shown."""

from __future__ import annotations

import base64
import re

_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE | re.ASCII)


def challenge(realm: str) -> str:
    """WWW-Authenticate.  `realm` is shown to the visitor; it has neither quotes nor backslashes."""
    return f'Basic realm="{realm}", charset="UTF-8"'


def shown(authorization: str) -> tuple[str, str] | None:
    """Name and password in the value of an Authorization; None where there are none that can be read."""
    match = _BASIC.fullmatch(authorization)
    if match is None:
        return None
    try:
        name, colon, password = base64.b64decode(match[1], validate=True).decode("utf-8").partition(":")
    except ValueError:  # it is no base64, or no UTF-8
        return None
    return (name, password) if colon else None
