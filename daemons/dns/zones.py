"""Zones: zone files, and lookup of the records for a name."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import dns.exception
import dns.rdataset
import dns.tokenizer
import dns.zone
import dns.zonefile
from dns.name import Name
from dns.rdatatype import RdataType

from daemons import FieldType

Node = Mapping[RdataType, dns.rdataset.Rdataset]

#: Maximum characters of a zone file: reading so many takes minutes.
LONGEST = 64 * 1024**2

#: The labels of a name.
Labels = tuple[bytes, ...]


def suffix(labels: Labels, length: int) -> Name:
    """Return the name of the last `length` labels."""
    return Name(labels[-length:])


@dataclass(frozen=True)
class Zone:
    """A zone as defined by its file (RFC 1035, section 5).

    Names are looked up as labels, since creating a `dns.name.Name` takes time for each label, and a name in a query may
    have 127."""

    path: str
    origin: Name
    nodes: Mapping[Name, Node]
    #: The names in `nodes`, and their parents without records, the empty non-terminals (RFC 4592, section 2.2.2).
    names: frozenset[Name]
    #: Number of labels in the longest of `names`.
    depth: int
    #: The SOA record of negative responses, with its TTL: RFC 2308, section 3.
    negative: dns.rdataset.Rdataset

    def node(self, labels: Labels) -> Node | None:
        """Return the records of a name, possibly from a wildcard (RFC 4592); None if the name does not exist."""
        name = suffix(labels, min(len(labels), self.depth))
        if len(name) == len(labels) and name in self.names:
            return self.nodes.get(name, {})
        while name not in self.names:
            name = name.parent()
        return self.nodes.get(Name((b"*", *name.labels)))

    def cut(self, labels: Labels, rdtype: int) -> Name | None:
        """Return the name of the first zone cut between the origin and the name, or None.  DS records belong to the
        parent zone, so for DS a cut at the name itself does not count: RFC 4035, section 3.1.4.1."""
        last = len(labels) - (rdtype == RdataType.DS)
        for length in range(len(self.origin) + 1, min(last, self.depth) + 1):
            above = suffix(labels, length)
            if RdataType.NS in self.nodes.get(above, {}):
                return above
        return None


class _Reader(dns.zonefile.Reader):
    def _eat_line(self) -> None:
        """Raise `ValueError` for a name outside the zone; the base class would skip the line."""
        raise ValueError("the name is not in the zone")


def read_zone(path: str) -> Zone:
    """Read a zone file in UTF-8, with or without a byte order mark.  Raises `ValueError`, with the number of an invalid
    line."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        with open(path, encoding="utf-8-sig", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{path}: not a regular file")
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise ValueError(f"{path}: more than {LONGEST} characters")
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from error
    found = _parsed(text)
    if isinstance(found, str):
        # The parser's line number is approximate.  Find the first line up to which parsing fails in the same way.
        lines = text.splitlines(keepends=True)
        number = 1 + bisect_left(range(len(lines)), True, key=lambda end: _parsed("".join(lines[: end + 1])) == found)
        line = " ".join(lines[number - 1].partition(";")[0].split())
        expected = "expected NAME [TTL] [IN] TYPE DATA, $ORIGIN NAME or $TTL TIME"
        raise ValueError(f"{path} line {number}: {line!r}: {found}; {expected}")
    nodes = {name: {each.rdtype: each for each in node} for name, node in found.nodes.items() if len(node)}
    origin = found.origin
    if origin is None or not {RdataType.SOA, RdataType.NS} <= nodes.get(origin, {}).keys():
        place = "after a line $ORIGIN NAME." if origin is None else f"for {origin}"
        raise ValueError(f"{path}: expected an SOA record and an NS record {place}")
    for name, node in nodes.items():
        if RdataType.DNAME in node:
            raise ValueError(f"{path}: {name}: DNAME is not supported; write a CNAME for each name")
    names = frozenset(name.split(depth)[1] for name in nodes for depth in range(len(origin), len(name) + 1))
    soa = nodes[origin][RdataType.SOA]
    negative = dns.rdataset.from_rdata_list(min(soa.ttl, soa[0].minimum), list(soa))
    return Zone(path, origin, nodes, names, max(map(len, names)), negative)


def _parsed(text: str) -> dns.zone.Zone | str:
    """Return the records of a zone file, or the reason for refusing the first malformed record."""
    zone = dns.zone.Zone(None, relativize=False)
    try:
        with zone.writer(True) as records:
            tokens = dns.tokenizer.Tokenizer(text)
            _Reader(tokens, zone.rdclass, records, allow_directives=("$ORIGIN", "$TTL")).read()
    except (dns.exception.DNSException, ValueError) as error:
        reason = str(error).removeprefix("<string>:").lstrip("0123456789").removeprefix(": ").rstrip(".")
        return "not a record" if reason in ("", "Text input is malformed") else reason
    return zone


def _zones(text: str) -> tuple[Zone, ...]:
    zones = tuple(map(read_zone, text.split()))
    if len({zone.origin for zone in zones}) < len(zones):
        raise ValueError("two files for the same zone")
    return zones


ZONES: FieldType[tuple[Zone, ...]] = FieldType(_zones, lambda zones: " ".join(zone.path for zone in zones), "files")
