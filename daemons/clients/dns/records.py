"""``daemons dns NAME``: the records of a name, from the DNS itself."""

from __future__ import annotations

import argparse
from typing import Any

from daemons.clients import arguments, tools
from daemons.clients.dns import resolving

#: In the order of the notes.
KINDS = ("A", "AAAA", "CNAME", "MX", "NS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=arguments.filled, help="a domain name")
    resolving.add_arguments(parser)
    parser.epilog = (
        "A line for each record: name, class, type, data; of an alias also what it stands for. Exit codes: 0 there are "
        "records, 1 there are none or nobody could tell, 2 a wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    return resolving.run("dns", options, lambda resolver: _print_records(options.name, resolver))


def _print_records(text: str, resolver: resolving.Resolver) -> int:
    name = resolving.name_of(text)
    printed: set[str] = set()
    for kind in KINDS:
        found = resolver.find(name, kind)
        if not found.exists and not found.aliases:
            return tools.refuse("dns", f"there is no name {resolving.shown(name)} (NXDOMAIN)")
        for line in (line for rrset in found.answer for line in _lines(rrset)):
            if line not in printed:  # an alias comes with each type
                printed.add(line)
                print(line)
    if not printed:
        return tools.refuse("dns", f"{resolving.shown(name)} has no records of the types {', '.join(KINDS)}")
    return tools.DONE


def _lines(rrset: Any) -> list[str]:
    """Sorted as DNSSEC sorts them (RFC 4034, section 6.3): they come in any order."""
    owner, kind = resolving.shown(rrset.name), resolving.type_name(rrset.rdtype)
    return [f"{owner} IN {kind} {rdata.to_text()}" for rdata in sorted(rrset)]
