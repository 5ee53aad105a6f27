"""The subject of a client certificate, as text."""

from __future__ import annotations

import re
import ssl

#: Short names of attribute types (RFC 4514, section 3); others keep OpenSSL's long name.
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}

#: Characters that are escaped, so that a value cannot look like another attribute (RFC 4514, section 2.4).
_SPECIAL = re.compile(r'[,+"\\<>;]|^[ #]| $')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def subject_of(tls: ssl.SSLObject) -> str | None:
    """Return the subject of the client certificate, as in RFC 4514: ``CN=Arthur,O=Camelot``.

    None if the client has presented none that was verified."""
    certificate = tls.getpeercert()
    if not certificate:
        return None
    names: tuple[tuple[tuple[str, str], ...], ...] = certificate.get("subject", ())  # type: ignore[assignment]
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={_escape(value)}" for kind, value in name) for name in reversed(names)
    )


def _escape(value: str) -> str:
    escaped = _SPECIAL.sub(lambda found: f"\\{found[0]}", value)
    return _CONTROL.sub(lambda found: f"\\{ord(found[0]):02X}", escaped)
