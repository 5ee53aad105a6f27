"""``daemons whois NAME``: who has registered a name (RFC 3912: one line is sent, and what comes back is for people)."""

from __future__ import annotations

import argparse
import re
import socket
import time

from daemons.clients import tools
from daemons.printable import escape

#: RFC 3912, section 2.
PORT = 43

#: Whom to ask: it knows the server of each top-level domain and of each block of addresses.
SERVER = ("whois.iana.org", PORT)

#: Octets of the longest answer that is printed; who sends more is no WHOIS server.
LONGEST = 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=_query, help="a domain name or an address")
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        type=lambda text: tools.host_and_port(text, PORT),
        default=SERVER,
        help="whom to ask; else whois.iana.org, whose answer names the next one (refer:)",
    )
    tools.add_timeout(parser)
    parser.epilog = "Exit codes: 0 there is an answer, 1 there is none, 2 a wrong command line."


def run(options: argparse.Namespace) -> int:
    try:
        answer = ask(options.name, options.server, options.timeout)
    except (OSError, UnicodeError) as error:
        return tools.refuse("whois", f"{options.server[0]} port {options.server[1]}: {tools.reason_of(error)}")
    # The RFC names no character set; most servers have come to UTF-8.
    for line in answer.decode("utf-8", "backslashreplace").splitlines():
        print(escape(line.rstrip()))
    if not answer.strip():
        return tools.refuse("whois", f"{options.server[0]} has closed without an answer")
    return tools.DONE


def ask(name: str, server: tuple[str, int], timeout: float) -> bytes:
    """What `server` says of `name`, within `timeout` seconds in all.  Raises `OSError`."""
    until = time.monotonic() + timeout
    with socket.create_connection(server, timeout) as peer:
        peer.sendall(name.encode() + b"\r\n")
        answer = b""
        while len(answer) <= LONGEST:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no end of the answer in {timeout:g} s")
            peer.settimeout(left)
            data = peer.recv(16 * 1024)
            if not data:
                return answer
            answer += data
    raise OSError(f"more than {LONGEST} octets, and no end; that is no answer")


def _query(text: str) -> str:
    if not text.strip() or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name; one line of text is expected")
    return text
