"""``daemons tls-report HOST [PORT]``: who answers over TLS, with which certificate, and how it is spoken.

The first connection verifies the certificate, as every client of this suite does.  Where that fails, a second one
is made that does not, to show what was presented; nothing is said on it, and the exit code is 1 all the same.
"""

from __future__ import annotations

import argparse
import hashlib
import socket
import sys
from pathlib import Path

from daemons.clients import arguments
from daemons.clients.net import x509
from daemons.clients.net.dial import NetworkError
from daemons.clients.net.tls_socket import TLSClientSocket, UntrustedError, without_zone
from daemons.clients.net.total_deadline import Due
from daemons.operating import lifecycle
from daemons.serving.listening.address import Address

#: The port of HTTPS, RFC 9110, section 4.2.2.
HTTPS = 443

#: What is offered by ALPN, in the IANA's words: to look, and to ask for a document.
OFFERED = ("h2", "http/1.1")
OFFERED_FOR_DOCUMENT = ("http/1.1", "http/1.0")

#: Octets per recv(2), and of the longest header of a document.
RECEIVE = 16 * 1024
HEADER = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """HOST, PORT and what to look for."""
    parser.add_argument("host", metavar="HOST", help="whom to connect to")
    parser.add_argument(
        "port", metavar="PORT", nargs="?", type=arguments.port, default=HTTPS, help=f"its port; else {HTTPS}"
    )
    parser.add_argument("--cafile", metavar="FILE", type=Path, help="the CA to trust; else those that this system does")
    parser.add_argument("--name", metavar="NAME", help="whom it must be, and is asked for (SNI); else HOST")
    parser.add_argument("--document", action="store_true", help="GET / as well, and say how long that is")
    parser.add_argument(
        "-t",
        dest="timeout",
        metavar="SECONDS",
        type=arguments.seconds,
        default=10.0,
        help="to wait, each time; else 10",
    )
    parser.epilog = (
        "Exit codes: 0 the certificate verifies, 1 it does not, or nothing could be learned, 2 a wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    """Print the report; returns the exit code."""
    address = Address("tls", options.host, options.port)
    try:
        try:
            with _connected(options, verify=True) as peer:
                print(f"{'verified':<12} yes, for {options.name or options.host}")
                _report(peer)
                if options.document:
                    _tell_of_document(peer, options)
        except UntrustedError as error:
            print(f"Certificate error: {error}", file=sys.stderr)
            with _connected(options, verify=False) as peer:
                print(f"{'verified':<12} no: this was presented, and proves nothing")
                _report(peer)
            return lifecycle.BUG
    except (OSError, UnicodeError) as error:
        raise NetworkError(address, error) from error
    return lifecycle.ENDED


def _connected(options: argparse.Namespace, *, verify: bool) -> TLSClientSocket:
    """Past the handshake with the first of the host's addresses that can be connected to.  Raises `OSError`."""
    connected = socket.create_connection((options.host, options.port), options.timeout)
    protocols = OFFERED_FOR_DOCUMENT if options.document else OFFERED
    try:
        name = options.name or options.host
        return TLSClientSocket(connected, name, options.cafile, protocols=protocols, verify=verify)
    except BaseException:
        connected.close()
        raise


def _report(peer: TLSClientSocket) -> None:
    """One line for each thing that was presented or agreed on."""
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
        ("alpn", x509.shown(session.selected_alpn_protocol() or "none")),
    ]
    for word, text in lines:
        print(f"{word:<12} {text}")


def _tell_of_document(peer: TLSClientSocket, options: argparse.Namespace) -> None:
    """GET /, as the notes do: HTTP/1.0, for then its end is the connection's, which TLS vouches for."""
    host = without_zone(options.name or options.host)
    host = f"[{host}]" if ":" in host else host
    peer.sendall(b"GET / HTTP/1.0\r\nHost: %b\r\n\r\n" % host.encode("idna"))
    head, length = b"", 0
    in_head = True
    due = Due(options.timeout)
    while data := peer.recv(RECEIVE):
        due.check(len(head) + length)
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
        raise OSError(f"what it says to GET / is no answer of HTTP: {head[:40]!r}")
    where = options.host if options.port == HTTPS else f"{options.host}:{options.port}"
    print(f"The document https://{where}/ is {length} bytes long")
