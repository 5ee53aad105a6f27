"""Access rules by the peer's network.

Rules are numeric.  A host name would need a DNS query for each peer, and the owner of the zone would control access.

The most specific network that contains the peer's address decides; a network that is both allowed and denied is denied.
A peer in none of them is admitted if ``allow`` is empty.  As in xinetd(8), the order of the rules has no meaning:

    allow = 192.0.2.0/24      admit only this network
    deny = 192.0.2.7          except this address
    deny = 0.0.0.0/0 ::/0     with allow = 127.0.0.0/8: admit only this host

Access rules do not authenticate peers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

from daemons.serving.conversation.endings import Refusal
from daemons.settings.values import FieldType, setting

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Size of the cache of decisions by host.
MAX_CACHED_HOSTS = 4096

#: A numeric address, or a network with a prefix length.  ipaddress accepts netmasks too, some of which are ambiguous.
_NUMERIC = re.compile(r"([0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?")


def parse_network(text: str) -> Network:
    """Parse a network or a single address.  Raise `ValueError` with the expected form."""
    if not _NUMERIC.fullmatch(text):
        raise ValueError(f"{text} is not a network; write numbers, as 127.0.0.0/8, 192.0.2.7, ::1 or 2001:db8::/32")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text} is not a network; write for example 127.0.0.0/8, 192.0.2.7, ::1 or 2001:db8::/32"
        ) from None
    if network.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise ValueError(f"{text} is an address and a network at once; write {network}, or the address alone")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:
        within = ipaddress.ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
        raise ValueError(f"{text} is IPv4 written as IPv6; write {_show(within)}, which holds for both")
    return network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse networks separated by white space.  Raise `ValueError` with all malformed ones."""
    networks: list[Network] = []
    wrong: list[str] = []
    for word in text.split():
        try:
            networks.append(parse_network(word))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(networks)


def _show(network: Network) -> str:
    return str(network.network_address if network.num_addresses == 1 else network)


NETWORKS: FieldType[tuple[Network, ...]] = FieldType(
    parse_networks, lambda networks: " ".join(map(_show, networks)), "networks, separated by spaces"
)


@dataclass(frozen=True)
class Access:
    """The section [access]: allowed and denied networks, and trusted proxies.  Immutable."""

    allow: tuple[Network, ...] = setting(
        NETWORKS, (), "networks allowed to connect, as 127.0.0.0/8 192.0.2.7 2001:db8::/32; empty: all"
    )
    deny: tuple[Network, ...] = setting(
        NETWORKS, (), "networks denied to connect; the most specific network of allow and deny decides"
    )
    proxies: tuple[Network, ...] = setting(
        NETWORKS,
        (),
        "networks of trusted proxies; their connections must begin with a PROXY header (v1 or v2), which gives the "
        "peer's address",
    )

    @cached_property
    def refusal(self) -> Callable[[str], Refusal | None]:
        """Function that returns the reason to refuse a host (`Connection.host`); None: admit it.  Thread-safe."""
        return lru_cache(MAX_CACHED_HOSTS)(self._decide)

    @cached_property
    def is_proxy(self) -> Callable[[str], bool]:
        """Function that returns whether a host is a trusted proxy.  Thread-safe."""
        table = _Table((network, True) for network in self.proxies)
        return lru_cache(MAX_CACHED_HOSTS)(lambda host: table.find(_address(host)) is not None)

    @cached_property
    def _table(self) -> _Table:
        return _Table([*((network, True) for network in self.allow), *((network, False) for network in self.deny)])

    def _decide(self, host: str) -> Refusal | None:
        address = _address(host)
        if address is None:
            return None
        allowed = self._table.find(address)
        if allowed is None:
            return Refusal.UNLISTED if self.allow else None
        return None if allowed else Refusal.DENIED


class _Table:
    """Longest-prefix match over networks, with one dictionary lookup for each prefix length in use."""

    def __init__(self, rules: Iterable[tuple[Network, bool]]) -> None:
        levels: dict[tuple[int, int], dict[int, bool]] = {}
        for network, allowed in rules:
            shift = network.max_prefixlen - network.prefixlen
            level = levels.setdefault((network.version, shift), {})
            number = int(network.network_address) >> shift
            level[number] = allowed and level.get(number, True)
        #: By IP version; longest prefix first.
        self._levels = {
            version: [(shift, levels[each, shift]) for each, shift in sorted(levels) if each == version]
            for version in (4, 6)
        }

    def find(self, address: IPAddress | None) -> bool | None:
        if address is not None:
            number = int(address)
            for shift, level in self._levels[address.version]:
                if (allowed := level.get(number >> shift)) is not None:
                    return allowed
        return None


def _address(host: str) -> IPAddress | None:
    """Return the address of a host, with IPv4-mapped IPv6 (::ffff:192.0.2.7) as IPv4; None for a Unix peer, whose
    access is controlled by the mode of the socket file."""
    if host == "unix":
        return None
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
