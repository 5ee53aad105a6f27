"""``daemons tls-report HOST [PORT]``: show a TLS server's certificate, protocol version and cipher.

The first connection verifies the certificate, as all clients of this suite do.  If that fails, a second connection
without verification shows the certificate that was presented; no data is sent on it, and the exit code is still 1.
"""

from __future__ import annotations

import argparse
import hashlib
import socket
import sys

from daemons.clients import arguments
from daemons.clients.net import x509
from daemons.clients.net.dial import NetworkError
from daemons.clients.net.tls_socket import TLSClientSocket, UntrustedError, without_zone
from daemons.clients.net.total_deadline import ReplyDeadline
from daemons.operating import lifecycle
from daemons.serving.listening.address import Address

#: The port of HTTPS, RFC 9110, section 4.2.2.
HTTPS = 443

#: Protocols offered by ALPN, by their IANA names: for a report alone, and with --document.
OFFERED = ("h2", "http/1.1")
OFFERED_FOR_DOCUMENT = ("http/1.1", "http/1.0")

#: Bytes per recv(2), and of the longest response head with --document.
RECEIVE = 16 * 1024
HEADER = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add HOST, PORT and the options."""
    parser.add_argument("host", metavar="HOST", type=arguments.nonempty, help="the server's name or address")
    parser.add_argument(
        "port", metavar="PORT", nargs="?", type=arguments.port, default=HTTPS, help=f"its port (default {HTTPS})"
    )
    parser.add_argument(
        "--cafile", metavar="FILE", type=arguments.path, help="the CA to trust (default: those of the system)"
    )
    parser.add_argument(
        "--name", metavar="NAME", type=arguments.nonempty, help="the name to send (SNI) and to verify (default HOST)"
    )
    parser.add_argument("--document", action="store_true", help="also request / and print its length")
    parser.add_argument(
        "-t",
        dest="timeout",
        metavar="SECONDS",
        type=arguments.seconds,
        default=10.0,
        help="timeout of each operation (default 10)",
    )
    parser.epilog = (
        "Exit codes: 0 the certificate verifies, 1 it does not, or the connection failed, 2 wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    """Print the report; return the exit code."""
    address = Address("tls", options.host, options.port)
    try:
        try:
            with _connected(options, verify=True) as peer:
                print(f"{'verified':<12} yes, for {options.name or options.host}")
                _report(peer)
                if options.document:
                    _report_document(peer, options)
        except UntrustedError as error:
            print(f"Certificate error: {error}", file=sys.stderr)
            with _connected(options, verify=False) as peer:
                print(f"{'verified':<12} no: the certificate below is not trusted")
                _report(peer)
            return lifecycle.BUG
    except (OSError, UnicodeError) as error:
        raise NetworkError(address, error) from error
    return lifecycle.ENDED


def _connected(options: argparse.Namespace, *, verify: bool) -> TLSClientSocket:
    """Return a connection to the host after the TLS handshake.  Raises `OSError`."""
    connected = socket.create_connection((options.host, options.port), options.timeout)
    protocols = OFFERED_FOR_DOCUMENT if options.document else OFFERED
    try:
        name = options.name or options.host
        return TLSClientSocket(connected, name, options.cafile, protocols=protocols, verify=verify)
    except BaseException:
        connected.close()
        raise


def _report(peer: TLSClientSocket) -> None:
    """Print the certificate's fields and the negotiated parameters, one line each."""
    session = peer.session
    der = session.getpeercert(binary_form=True) or b""
    lines: list[tuple[str, str]] = []
    try:
        certificate = x509.read(der)
    except ValueError as error:
        lines.append(("certificate", str(error)))
    else:
        lines += [
            ("subject", certificate.subject or "(empty)"),
            ("issuer", certificate.issuer or "(empty)"),
            ("names", ", ".join(certificate.names) or "none"),
            ("valid", f"{certificate.not_before:%Y-%m-%d %H:%M:%S} to {certificate.not_after:%Y-%m-%d %H:%M:%S} UTC"),
        ]
    cipher, _, bits = session.cipher() or ("none", "", 0)
    lines += [
        ("sha256", hashlib.sha256(der).digest().hex(":").upper()),
        ("protocol", session.version() or "none"),
        ("cipher", cipher),
        ("bits", str(bits)),
        ("compression", session.compression() or "none"),
        ("alpn", x509.escape_name(session.selected_alpn_protocol() or "none")),
    ]
    for word, text in lines:
        print(f"{word:<12} {text}")


def _report_document(peer: TLSClientSocket, options: argparse.Namespace) -> None:
    """Request / and print the length of its body.

    By HTTP/1.0, where the body ends with the connection, and TLS detects truncation.  Raises `OSError`."""
    host = without_zone(options.name or options.host)
    host = f"[{host}]" if ":" in host else host
    peer.sendall(b"GET / HTTP/1.0\r\nHost: %b\r\n\r\n" % host.encode("idna"))
    head, length = b"", 0
    in_head = True
    deadline = ReplyDeadline(options.timeout)
    while data := peer.recv(RECEIVE):
        deadline.check(len(head) + length)
        if not in_head:
            length += len(data)
            continue
        head += data
        _, end, after = head.partition(b"\r\n\r\n")
        if end:
            in_head, length = False, len(after)
        elif len(head) > HEADER:
            break
    if in_head or not head.startswith(b"HTTP/"):
        raise OSError(f"the response to GET / is not HTTP: {head[:40]!r}")
    where = options.host if options.port == HTTPS else f"{options.host}:{options.port}"
    print(f"The document https://{where}/ is {length} bytes long")
