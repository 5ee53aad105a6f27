"""``daemons forward-reverse HOST``: forward-confirmed reverse DNS.

The owner of an address block sets its reverse names and may set any name.  A reverse name is therefore looked up as
well, and counts only if it has the address (RFC 1912, section 2.1); mail servers require this of their peers.
"""

from __future__ import annotations

import argparse
import enum
import sys
from typing import Any

from daemons.clients import tools
from daemons.clients.net.system import NOT_FOUND, is_address, resolve, reverse
from daemons.printable import escape

#: Second-level labels below which country registries register names: bbc.co.uk, anu.edu.au, u-tokyo.ac.jp.
SECOND_LEVEL = frozenset(
    [
        *("ac", "co", "com", "edu", "gen", "go", "gob", "gouv", "gov", "govt", "gv", "ltd", "mil", "muni", "ne", "net"),
        *("nhs", "nom", "or", "org", "plc", "police", "sch", "school"),
    ]
)


class Verdict(enum.Enum):
    """Result of the comparison of two names; the value is the text that is printed."""

    AGREE = "Wow, the names agree completely!"
    COMMON = "The forward and reverse names have a lot in common"
    FOREIGN = "WARNING! The reverse name belongs to a different organization"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST", help="a name or an address")
    parser.epilog = (
        "Exit codes: 0 the names agree, or share their registered domain; 1 they do not, or a name is missing; "
        "2 wrong command line. Names are resolved by the system, including /etc/hosts."
    )


def run(options: argparse.Namespace) -> int:
    try:
        found = resolve(options.host)
    except (OSError, UnicodeError) as error:
        print(f"Forward name service failure: {tools.reason_of(error)}", file=sys.stderr)
        return tools.FAILED
    codes = [_check_address(options.host, address) for address in dict.fromkeys(each.address for each in found)]
    return max(codes)


def _check_address(host: str, address: Any) -> int:
    """Check one address of a host and print the result; return an exit code."""
    ip = address[0]
    if not is_address(host):
        print(f"{escape(host)} has IP address {ip}")
    try:
        name = reverse(address)
        back = name is not None and _resolves_to(name, ip)
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


def _resolves_to(name: str, ip: str) -> bool:
    try:
        return ip in {each.address[0] for each in resolve(name)}
    except UnicodeError:
        return False
    except OSError as error:
        if error.errno in NOT_FOUND:
            return False
        raise


def compare(forward: str, backward: str) -> Verdict:
    """Return whether two names are equal, belong to the same organization, or neither.

    An organization is identified by its registered domain: one label below a top-level domain (python.org), or below a
    second-level label that a country registry uses (bbc.co.uk).  So foo.com and bar.com have nothing in common (T25),
    nor have mit.edu and edu.  A name of one label is a host name without the search domain of resolv.conf(5): only its
    first label is compared."""
    one, other = _labels(forward), _labels(backward)
    if one == other:
        return Verdict.AGREE
    if len(one) == 1 or len(other) == 1:
        return Verdict.COMMON if one[0] == other[0] else Verdict.FOREIGN
    registered = _registered(one)
    return Verdict.COMMON if registered and registered == _registered(other) else Verdict.FOREIGN


def _labels(name: str) -> list[str]:
    """Return the labels of a name, in lower case and encoded by IDNA."""
    try:
        name = name.encode("idna").decode("ascii")
    except UnicodeError:
        pass
    return name.lower().removesuffix(".").split(".")


def _registered(labels: list[str]) -> list[str]:
    """Return the registered domain, such as ``python.org`` or ``bbc.co.uk``; empty for a public suffix such as ``org``
    or ``co.uk``."""
    country = len(labels[-1]) == 2
    size = 3 if country and labels[-2] in SECOND_LEVEL else 2
    return labels[-size:] if len(labels) >= size else []
