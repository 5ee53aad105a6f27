"""``daemons whois NAME``: query a WHOIS server for the registration of a name (RFC 3912)."""

from __future__ import annotations

import argparse
import re
import socket
import time

from daemons.clients import tools
from daemons.printable import escape

#: RFC 3912, section 2.
PORT = 43

#: The default server, which refers to the servers of all top-level domains and address blocks.
SERVER = ("whois.iana.org", PORT)

#: Maximum bytes of a reply; WHOIS records are far shorter.
LONGEST = 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=_query, help="a domain name or an address")
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        type=lambda text: tools.host_and_port(text, PORT),
        default=SERVER,
        help="the server (default whois.iana.org, which names the responsible server in refer:)",
    )
    tools.add_timeout(parser)
    parser.epilog = "Exit codes: 0 the server replied, 1 it did not, 2 wrong command line."


def run(options: argparse.Namespace) -> int:
    try:
        reply = ask(options.name, options.server, options.timeout)
    except (OSError, UnicodeError) as error:
        return tools.refuse("whois", f"{options.server[0]} port {options.server[1]}: {tools.reason_of(error)}")
    # RFC 3912 specifies no character set; most servers use UTF-8.
    for line in reply.decode("utf-8", "backslashreplace").splitlines():
        print(escape(line.rstrip()))
    if not reply.strip():
        return tools.refuse("whois", f"{options.server[0]} closed the connection without a reply")
    return tools.DONE


def ask(name: str, server: tuple[str, int], timeout: float) -> bytes:
    """Return the reply of `server` to a query for `name`; `timeout` limits the whole reply, in seconds.  Raises
    `OSError`."""
    until = time.monotonic() + timeout
    with socket.create_connection(server, timeout) as peer:
        peer.sendall(name.encode() + b"\r\n")
        reply = b""
        while len(reply) <= LONGEST:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the reply did not end in {timeout:g} s")
            peer.settimeout(left)
            data = peer.recv(16 * 1024)
            if not data:
                return reply
            reply += data
    raise OSError(f"the reply is longer than {LONGEST} bytes")


def _query(text: str) -> str:
    if not text.strip() or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name; expected one line of text")
    return text
