"""Build the `ssl.SSLContext` of the section [tls]; complaints name file, section and key."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from daemons.operating.config.sections import Settings
from daemons.serving.conversation.tls import TLS, reason_of
from daemons.serving.tls.context import server_context
from daemons.settings.complaints import ConfigurationError
from daemons.settings.regular_file import read_bytes

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_ENCRYPTED = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)


def shared_tls(settings: Settings) -> TLS | None:
    """Return the `TLS` object shared by all listeners; None if none may have TLS.  Raises `ConfigurationError`."""
    return TLS(context(settings)) if settings.over_tls else None


def context(settings: Settings) -> ssl.SSLContext:
    """Return the context for [tls], from the current files.

    Raises `ConfigurationError`, also for a certificate that no client would accept, such as an expired one."""
    return _Maker(settings).make()


class _Maker:
    """Reads the files and collects the complaints."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._complaints: list[str] = []

    def make(self) -> ssl.SSLContext:
        tls = self._settings.tls
        key_name = "key" if tls.key else "certificate"
        made = server_context(tls.minimum)
        chain = self._read("certificate")
        key = self._read(key_name) if chain is not None else None
        if chain is not None and not _CERTIFICATE.search(chain):
            self._complain("certificate", "contains no certificate; PEM is expected")
        elif chain is not None and key is not None:
            self._load(made, key, key_name)
            if not self._complaints:
                self._check_usable(made, chain)
        if tls.client_ca and (trusted := self._read("client_ca")) is not None:
            try:
                # Bundles have comments in any language between their certificates; the certificates are ASCII.
                made.load_verify_locations(cadata=trusted.encode("ascii", "replace").decode("ascii"))
                made.verify_mode = ssl.CERT_REQUIRED
            except (ssl.SSLError, ValueError):
                self._complain("client_ca", "contains no certificate; PEM is expected")
        if self._complaints:
            raise ConfigurationError(self._complaints)
        return made

    def _load(self, made: ssl.SSLContext, key: str, key_name: str) -> None:
        if not _KEY.search(key):
            advice = "; name its file with key =" if key_name == "certificate" else ""
            self._complain(key_name, f"contains no private key; PEM is expected{advice}")
        elif _ENCRYPTED.search(key):
            self._complain(key_name, "the key has a passphrase; a daemon needs one without, in a file of mode 0600")
        else:
            try:
                # With a password, OpenSSL never asks for one on the terminal.
                made.load_cert_chain(self._path("certificate"), self._path(key_name), password="")
            except ssl.SSLError as error:
                if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
                    self._complain(key_name, "the key does not match the certificate")
                else:
                    self._complain("certificate", f"cannot be used: {reason_of(error)}")
            except OSError as error:
                self._complain(key_name, (error.strerror or str(error)).lower())

    def _check_usable(self, made: ssl.SSLContext, chain: str) -> None:
        """Verify the certificate by a handshake in memory: the standard library verifies only as a client."""
        match = _CERTIFICATE.search(chain)
        assert match is not None
        try:
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname = False
            client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate is its own trust anchor
            client.load_verify_locations(cadata=ssl.PEM_cert_to_DER_cert(match[0]))
            _handshake(client, made)
        except ssl.SSLCertVerificationError as error:
            self._complain("certificate", f"no client would accept it: {error.verify_message}")
        except (ssl.SSLError, ValueError) as error:
            self._complain("certificate", f"cannot be used: {getattr(error, 'reason', None) or error}")

    def _read(self, key: str) -> str | None:
        path = self._path(key)
        try:
            return read_bytes(path).decode("utf-8", "replace")
        except FileNotFoundError:
            advice = "; `daemons cert` makes one to try it with" if key == "certificate" else ""
            self._complain(key, f"no such file{advice}")
        except OSError as error:
            self._complain(key, (error.strerror or str(error)).lower())
        return None

    def _path(self, key: str) -> Path:
        return self._settings.resolve_path(getattr(self._settings.tls, key))

    def _complain(self, key: str, reason: str) -> None:
        settings = self._settings
        origin = settings.origins.get(("tls", key), f"conf/{settings.name}.ini")
        self._complaints.append(f"{origin} [tls] {key} = {getattr(settings.tls, key)}: {reason}")


def _handshake(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    """Perform a handshake in memory.  Raises `ssl.SSLError`."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(back, there)
    server = server_context.wrap_bio(there, back, server_side=True)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
