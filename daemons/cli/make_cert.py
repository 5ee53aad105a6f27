"""``daemons cert``: create a private CA and a server certificate signed by it, to try TLS.

The certificates satisfy `ssl.VERIFY_X509_STRICT`, the default of Python 3.13: RFC 5280, with its critical extensions.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from daemons.operating import lifecycle
from daemons.operating.config import ini

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("cryptography"):
        raise
    MISSING = True
else:
    MISSING = False

ALWAYS = ("localhost", "127.0.0.1", "::1")

#: Host name, RFC 1123, section 2.1; the first label may be a wildcard, RFC 6125, section 6.4.3.
_HOST = re.compile(
    r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)

#: Start of validity before now, for clients whose clock is slow.
BEFORE = datetime.timedelta(hours=1)

CA, CA_KEY, SERVER, SERVER_KEY = FILES = ("ca.pem", "ca.key", "server.pem", "server.key")

_ADVICE = """\
{out}/ca.pem      the CA, which clients must trust; valid for {days} days
{out}/ca.key      its key, secret: it can sign a certificate for any name
{out}/server.pem  the certificate, for {names}
{out}/server.key  its key

In the ini of a daemon:

    [daemon]
    listen = tls://127.0.0.1:1060

    [tls]
    certificate = {out}/server.pem
    key = {out}/server.key

To try it:

    daemons ask NAME{cafile}
    openssl s_client -connect 127.0.0.1:1060 -CAfile {out}/ca.pem -verify_return_error
"""


def run(options: argparse.Namespace, conf: Path) -> int:
    """Run the command; return the exit code."""
    if MISSING:
        return _refuse("the package cryptography is not installed: pip install 'camelot-daemons[tls]'")
    base = ini.placed(conf).parent
    run = options.run.absolute() if options.run else base / "run"
    out = options.out.absolute() if options.out else run / "tls"
    existing = [str(out / name) for name in FILES if (out / name).exists()]
    if existing and not options.force:
        return _refuse(f"files exist: {', '.join(existing)}; overwrite them with --force")
    names = list(dict.fromkeys([*ALWAYS, *options.hosts]))
    try:
        made = make(names, options.days)
    except (ValueError, OverflowError) as error:
        return _refuse(str(error), lifecycle.USAGE)
    try:
        _write(out, made)
    except OSError as error:
        return _refuse(f"{error.filename}: {(error.strerror or str(error)).lower()}", lifecycle.SYSTEM_REFUSED)
    print(
        _ADVICE.format(
            out=_shown(out, base, run),
            days=options.days,
            names=", ".join(names),
            cafile="" if out == run / "tls" else f" --cafile {out}/{CA}",
        ),
        end="",
    )
    return lifecycle.ENDED


def make(names: list[str], days: int) -> dict[str, bytes]:
    """Return the content of the four files by name.  Raises `ValueError` for an invalid name or `days`."""
    if days < 1:
        raise ValueError(f"--days {days}: a whole number above 0 is expected")
    alternatives = [_general_name(name) for name in names]
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name(f"daemons cert, {now:%Y-%m-%d %H:%M:%S} UTC")
    authority = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BEFORE)
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False)
        )

    ca = (
        builder(issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    server = (
        builder(_name(names[0]), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    )
    pem = serialization.Encoding.PEM
    return {
        CA: ca.sign(ca_key, hashes.SHA256()).public_bytes(pem),
        CA_KEY: _key_bytes(ca_key),
        SERVER: server.sign(ca_key, hashes.SHA256()).public_bytes(pem),
        SERVER_KEY: _key_bytes(key),
    }


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    with suppress(UnicodeError):
        ascii_name = name if name.isascii() else name.encode("idna").decode("ascii")
        if _HOST.fullmatch(ascii_name):
            return x509.DNSName(ascii_name)
    raise ValueError(f"--host {name}: neither a host name nor an address")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(out: Path, made: dict[str, bytes]) -> None:
    """Write the files, all or none: a certificate does not fit the key of another run.  Raises `OSError`."""
    out.mkdir(parents=True, exist_ok=True)
    # Replaced atomically: a daemon may be reading the old file, and a key must never be readable for others.
    fresh = {name: out / f".{name}.new" for name in made}
    try:
        for name, content in made.items():
            _write_new(fresh[name], content, 0o600 if name.endswith(".key") else 0o644)
        for name, path in fresh.items():
            path.replace(out / name)
    finally:
        for path in fresh.values():
            with suppress(OSError):
                path.unlink()


def _write_new(path: Path, content: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:  # of write(2), which has no file name
        raise OSError(error.errno, error.strerror, str(path)) from error


def _shown(out: Path, base: Path, run: Path) -> str:
    """Return the folder as written in an ini."""
    if out.is_relative_to(run):
        return str("run" / out.relative_to(run))
    return str(out.relative_to(base)) if out.is_relative_to(base) else str(out)


def _refuse(reason: str, code: int = lifecycle.BUG) -> int:
    print(f"daemons cert: {reason}", file=sys.stderr)
    return code
