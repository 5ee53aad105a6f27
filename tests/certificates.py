"""Certificates for the tests, created once: valid ones, and ones with a single defect each."""

from __future__ import annotations

import atexit
import datetime
import shutil
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from daemons.cli import make_cert

PEM = serialization.Encoding.PEM
DAY = datetime.timedelta(days=1)

#: Subject of the certificate ``knight``: it has every character that must be escaped.
KNIGHT = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "GB"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Camelot, O=Ltd; <+>"),
        x509.NameAttribute(NameOID.COMMON_NAME, ' "Arthur" \\ \u00e9 '),
    ]
)


@cache
def folder() -> Path:
    """Return a folder with ``ca.pem``, ``server.pem`` and ``server.key`` as made by `daemons cert`; ``other/``, the
    same from another CA; and ``expired``, ``future``, ``selfsigned``, ``client`` and ``knight``, each a .pem with its
    key."""
    path = Path(tempfile.mkdtemp(prefix="certificates-"))
    atexit.register(shutil.rmtree, path)
    for place in (path, path / "other"):
        place.mkdir(exist_ok=True)
        for name, content in make_cert.make([*make_cert.ALWAYS, "camelot.example"], 2).items():
            (place / name).write_bytes(content)
    now = datetime.datetime.now(datetime.UTC)
    _issue(path, "expired", now - 3 * DAY, now - DAY)
    _issue(path, "future", now + DAY, now + 3 * DAY)
    _issue(path, "client", now - DAY, now + DAY, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    _issue(path, "knight", now - DAY, now + DAY, usage=ExtendedKeyUsageOID.CLIENT_AUTH, subject=KNIGHT)
    _issue(path, "selfsigned", now - DAY, now + DAY, own=True)
    _encrypt(path)
    return path


def _issue(
    path: Path,
    name: str,
    before: datetime.datetime,
    after: datetime.datetime,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    own: bool = False,
    subject: x509.Name | None = None,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    ca = x509.load_pem_x509_certificate((path / "ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((path / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if own else ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(before)
        .not_valid_after(after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((key if own else ca_key).public_key()), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key if own else ca_key, hashes.SHA256())
    )
    (path / f"{name}.pem").write_bytes(certificate.public_bytes(PEM) + _key(key, serialization.NoEncryption()))


def _encrypt(path: Path) -> None:
    key = serialization.load_pem_private_key((path / "server.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    (path / "encrypted.key").write_bytes(_key(key, serialization.BestAvailableEncryption(b"secret")))


def _key(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)
