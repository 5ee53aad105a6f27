"""``daemons forward-reverse HOST``: does the name of a host's address lead back to it, and whose is it?

Who has an address decides what its reverse name says, and may write anything there.  So that name is looked up too, and
counts only where it has the address (RFC 1912, section 2.1; it is what a mail server asks of its peers).
"""

from __future__ import annotations

import argparse
import enum
import sys
from typing import Any

from daemons.clients import tools
from daemons.clients.net.system import NONE, is_address, places, reverse
from daemons.printable import escape

#: Second labels under which the registries of countries register: bbc.co.uk, anu.edu.au, u-tokyo.ac.jp.
SECOND_LEVEL = frozenset(
    [
        *("ac", "co", "com", "edu", "gen", "go", "gob", "gouv", "gov", "govt", "gv", "ltd", "mil", "muni", "ne", "net"),
        *("nhs", "nom", "or", "org", "plc", "police", "sch", "school"),
    ]
)


class Verdict(enum.Enum):
    """What two names have in common; the text is that of the notes."""

    AGREE = "Wow, the names agree completely!"
    COMMON = "The forward and reverse names have a lot in common"
    FOREIGN = "WARNING! The reverse name belongs to a different organization"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST", help="a name or an address")
    parser.epilog = (
        "Exit codes: 0 the names agree, or have the domain in common that somebody has registered; 1 they do not, or "
        "one of them is missing; 2 a wrong command line. The system's name service is asked, /etc/hosts included."
    )


def run(options: argparse.Namespace) -> int:
    try:
        found = places(options.host)
    except (OSError, UnicodeError) as error:
        print(f"Forward name service failure: {tools.reason_of(error)}", file=sys.stderr)
        return tools.FAILED
    codes = [_look_at(options.host, address) for address in dict.fromkeys(place.address for place in found)]
    return max(codes)


def _look_at(host: str, address: Any) -> int:
    """One of its addresses."""
    ip = address[0]
    if not is_address(host):
        print(f"{escape(host)} has IP address {ip}")
    try:
        name = reverse(address)
        back = name is not None and _leads_to(name, ip)
    except OSError as error:
        return _warn(f"Reverse name service failure: {tools.reason_of(error)}")
    if name is None:
        return _warn(f"WARNING! The IP address {ip} has no reverse name")
    print(f"{ip} has the canonical hostname {escape(name)}")
    if not back:
        return _warn(f"WARNING! The reverse name does not lead back to {ip}")
    if is_address(host):
        print("The reverse name leads back to the address")
        return tools.DONE
    verdict = compare(host, name)
    if verdict is Verdict.FOREIGN:
        return _warn(verdict.value)
    print(verdict.value)
    return tools.DONE


def _warn(text: str) -> int:
    sys.stdout.flush()
    print(text, file=sys.stderr)
    return tools.FAILED


def _leads_to(name: str, ip: str) -> bool:
    try:
        return ip in {place.address[0] for place in places(name)}
    except UnicodeError:
        return False
    except OSError as error:
        if error.errno in NONE:
            return False
        raise


def compare(forward: str, backward: str) -> Verdict:
    """How near two names are: the same, of one organization, or not.

    An organization is known by the domain that it has registered: the label before a top-level domain, python.org; or
    before two labels of which a country uses the first for what others use top-level domains for, bbc.co.uk.  So
    foo.com and bar.com have nothing in common (T25), and neither have mit.edu and edu.  A name of one label is a host's
    of the domain that the resolver adds, which resolv.conf(5) calls search: its first label must be the same."""
    one, other = _labels(forward), _labels(backward)
    if one == other:
        return Verdict.AGREE
    if len(one) == 1 or len(other) == 1:
        return Verdict.COMMON if one[0] == other[0] else Verdict.FOREIGN
    registered = _registered(one)
    return Verdict.COMMON if registered and registered == _registered(other) else Verdict.FOREIGN


def _labels(name: str) -> list[str]:
    """In small letters, as they stand in the DNS."""
    try:
        name = name.encode("idna").decode("ascii")
    except UnicodeError:
        pass
    return name.lower().removesuffix(".").split(".")


def _registered(labels: list[str]) -> list[str]:
    """``python.org``, ``bbc.co.uk``; empty where nobody has registered it: ``org``, ``co.uk``."""
    country = len(labels[-1]) == 2
    size = 3 if country and labels[-2] in SECOND_LEVEL else 2
    return labels[-size:] if len(labels) >= size else []
