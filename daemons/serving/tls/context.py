"""TLS contexts of all servers and clients."""

from __future__ import annotations

import ssl
from pathlib import Path

from daemons.serving.tls.sessions import disable_cache
from daemons.settings import regular_file

#: For TLS 1.2; all cipher suites of TLS 1.3 are AEADs with ephemeral keys.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(minimum: str = "1.2") -> ssl.SSLContext:
    """Return the context of a server, without a certificate.

    `minimum` is the lowest accepted version, ``1.2`` or ``1.3``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MINIMUM[minimum]
    context.set_ciphers(CIPHERS)
    # A renegotiation costs the server a handshake and the client nothing; it also was a vulnerability (CVE-2009-3555).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    disable_cache(context)
    report_truncation(context)
    return context


def client_context(cafile: Path | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """Return the context of a client that trusts the CA in `cafile`, or those of the system if it is None.

    ``verify=False`` accepts any certificate: for inspecting a server only.
    Raise `OSError` with the file's name if it cannot be read or contains no certificate."""
    try:
        if cafile is not None:
            regular_file.check(cafile)
        context = ssl.create_default_context(cafile=None if cafile is None else str(cafile))
    except ssl.SSLError as error:
        raise OSError(f"{cafile}: there is no certificate in it; PEM is expected") from error
    except OSError as error:
        raise OSError(f"{cafile}: {(error.strerror or str(error)).lower()}") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    report_truncation(context)
    return context


def report_truncation(context: ssl.SSLContext) -> None:
    """Make a TCP connection that ends without close_notify an error, on every Python.

    Python 3.10 to 3.11.2 set SSL_OP_IGNORE_UNEXPECTED_EOF, and a truncated input then looks complete
    (RFC 8446, section 6.1; SSL_CTX_set_options(3))."""
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF


def is_truncation(error: ssl.SSLError) -> bool:
    """Return whether the TCP connection ended without close_notify.

    Python 3.11.2 has no exception class for this, only OpenSSL's reason."""
    return isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"
