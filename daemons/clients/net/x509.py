"""Parser of X.509 certificates in DER (RFC 5280, section 4.1), without verification.

The standard library decodes verified certificates only. Diagnosing a failed verification needs the fields, too.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from daemons.printable import is_printable

#: Tags of X.690, section 8, and of GeneralName, RFC 5280, section 4.2.1.6.
SEQUENCE, SET, OBJECT, UTC_TIME, GENERALIZED_TIME = 0x30, 0x31, 0x06, 0x17, 0x18
VERSION, EXTENSIONS = 0xA0, 0xA3
MAIL, DNS, URI, IP = 0x81, 0x82, 0x86, 0x87

#: Attribute types of distinguished names (RFC 5280, section 4.1.2.4) and their names in openssl(1).
ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}

SUBJECT_ALT_NAME = "2.5.29.17"

#: String types that are not a subset of UTF-8, by tag: T61String, UniversalString, BMPString.
ENCODINGS = {20: "latin-1", 28: "utf-32-be", 30: "utf-16-be"}

#: Separators within a distinguished name, which are escaped in its values (RFC 4514, section 2.4).
SEPARATORS = ',+"\\<>;'


@dataclass(frozen=True)
class Certificate:
    """The fields of a certificate that are reported; all text is printable."""

    subject: str
    issuer: str
    #: Subject alternative names, such as ``DNS:localhost`` and ``IP:127.0.0.1``.
    names: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime


def read(der: bytes) -> Certificate:
    """Parse the certificate in `der`; its signature is not verified.  Raises `ValueError` if it is malformed."""
    try:
        ((_, certificate),) = _inside(der, SEQUENCE)
        fields = list(_elements(next(content for _, content in _elements(certificate))))
        if fields[0][0] == VERSION:
            del fields[0]
        _, _, issuer, validity, subject, _, *others = fields
        not_before, not_after = (_time(tag, content) for tag, content in _elements(validity[1]))
        extensions = next((content for tag, content in others if tag == EXTENSIONS), b"")
        return Certificate(_name(subject[1]), _name(issuer[1]), tuple(_alternatives(extensions)), not_before, not_after)
    except (IndexError, StopIteration, RuntimeError, ValueError) as error:
        raise ValueError(f"not a certificate of RFC 5280: {error}") from error


def escape_name(text: str) -> str:
    """Return `text` with separators and characters that are not printable escaped."""
    return "".join(
        f"\\{character}"
        if character in SEPARATORS
        else character
        if is_printable(character)
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and content of each element (X.690, section 8.1).  Raises `ValueError`."""
    at = 0
    while at < len(data):
        header = data[at : at + 2]
        if len(header) < 2:
            raise ValueError("an element ends before its length")
        tag, length = header
        at += 2
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4:
                raise ValueError("the length of an element is malformed")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("an element is longer than its container")
        yield tag, data[at : at + length]
        at += length


def _inside(data: bytes, tag: int) -> Iterator[tuple[int, bytes]]:
    for found, content in _elements(data):
        if found != tag:
            raise ValueError(f"tag {found:#04x}; expected {tag:#04x}")
        yield found, content


def _name(data: bytes) -> str:
    """Return a Name, a sequence of sets of attributes, as text."""
    parts = []
    for _, several in _inside(data, SET):
        for _, attribute in _inside(several, SEQUENCE):
            (_, kind), (tag, value) = _elements(attribute)
            text = value.decode(ENCODINGS.get(tag, "utf-8"), "replace")
            identifier = _object(kind)
            parts.append(f"{ATTRIBUTES.get(identifier, identifier)}={escape_name(text)}")
    return ", ".join(parts)


def _alternatives(extensions: bytes) -> Iterator[str]:
    """Yield the subject alternative names in the extensions."""
    for _, several in _elements(extensions):
        for _, extension in _inside(several, SEQUENCE):
            (_, kind), *_, (_, value) = _elements(extension)
            if _object(kind) == SUBJECT_ALT_NAME:
                for _, names in _inside(value, SEQUENCE):
                    yield from (_general_name(tag, content) for tag, content in _elements(names))


def _general_name(tag: int, content: bytes) -> str:
    if tag == IP:
        return f"IP:{ipaddress.ip_address(content)}"
    word = {DNS: "DNS", MAIL: "email", URI: "URI"}.get(tag)
    return (
        f"{word}:{escape_name(content.decode('utf-8', 'replace'))}"
        if word
        else f"unsupported type of name ({tag:#04x})"
    )


def _object(content: bytes) -> str:
    """Return an object identifier in dotted decimal (X.690, section 8.19)."""
    numbers, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first, *others = numbers or [0]
    top = min(first // 40, 2)
    return ".".join(map(str, (top, first - 40 * top, *others)))


def _time(tag: int, content: bytes) -> datetime.datetime:
    """Return a time (RFC 5280, section 4.1.2.5); a two-digit year below 50 is in the 21st century."""
    text = content.decode("ascii", "replace")
    if tag == UTC_TIME:
        text = ("20" if text[:2] < "50" else "19") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#04x}; expected a time")
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC)
