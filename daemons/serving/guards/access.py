"""Who may come, by the network a peer is in.  Numbers only: a name would have to be looked up for every
peer, and whoever answers for that name would decide who comes in.

The most specific network that a peer is in decides; where the same one is both allowed and denied, it is
denied.  Who is in none may come if ``allow`` is empty.  As in xinetd(8): order means nothing, and

    allow = 192.0.2.0/24      is: nobody else
    deny = 192.0.2.7          but not this one
    deny = 0.0.0.0/0 ::/0     with allow = 127.0.0.0/8: nobody but this machine

Access rules keep mistakes and idlers out.  They are no proof of who somebody is.
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

#: Peers whose verdict is remembered.  One that is asked again costs a tenth of a microsecond.
REMEMBERED = 4096

#: An address or a network in digits, with a prefix length; ipaddress would take netmasks too, of which
#: some can be read both ways.
_NUMERIC = re.compile(r"([0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?")


def parse_network(text: str) -> Network:
    """One network, or one address, which is a network of one.  Raises `ValueError` saying what was expected."""
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
    """Networks separated by blanks or new lines.  Raises `ValueError` that tells of every one that is none."""
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
    parse_networks, lambda networks: " ".join(map(_show, networks)), "networks, separated by blanks"
)


@dataclass(frozen=True)
class Access:
    """The section [access]: networks that may connect, and proxies that are trusted.

    Immutable: other rules are another object, and a server is given that."""

    allow: tuple[Network, ...] = setting(
        NETWORKS, (), "networks whose peers may come, as 127.0.0.0/8 192.0.2.7 2001:db8::/32; empty: everybody's"
    )
    deny: tuple[Network, ...] = setting(
        NETWORKS, (), "networks whose peers may not; where both name a peer's network, the most specific one decides"
    )
    proxies: tuple[Network, ...] = setting(
        NETWORKS, (), "networks whose peers must begin with a PROXY header (v1 or v2), and are then who it says"
    )

    @cached_property
    def refusal(self) -> Callable[[str], Refusal | None]:
        """Why the peer at a host (`Connection.host`) may not come; None: it may.  From any thread."""
        return lru_cache(REMEMBERED)(self._judge)

    @cached_property
    def is_proxy(self) -> Callable[[str], bool]:
        """Whether the peer at a host has to say for whom it comes.  From any thread."""
        table = _Table((network, True) for network in self.proxies)
        return lru_cache(REMEMBERED)(lambda host: table.find(_address(host)) is not None)

    @cached_property
    def _table(self) -> _Table:
        return _Table([*((network, True) for network in self.allow), *((network, False) for network in self.deny)])

    def _judge(self, host: str) -> Refusal | None:
        address = _address(host)
        if address is None:
            return None
        allowed = self._table.find(address)
        if allowed is None:
            return Refusal.UNLISTED if self.allow else None
        return None if allowed else Refusal.DENIED


class _Table:
    """Networks and whether each is allowed.  Finds the most specific one that an address is in with one look
    for each prefix length, however many networks there are."""

    def __init__(self, rules: Iterable[tuple[Network, bool]]) -> None:
        levels: dict[tuple[int, int], dict[int, bool]] = {}
        for network, allowed in rules:
            shift = network.max_prefixlen - network.prefixlen
            level = levels.setdefault((network.version, shift), {})
            number = int(network.network_address) >> shift
            level[number] = allowed and level.get(number, True)
        #: By IP version: the longest prefix first.
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
    """The address of a host; that of a peer over IPv4 on an IPv6 socket, ::ffff:192.0.2.7, as IPv4.  None for
    a Unix peer, whom the mode of the socket's file has let in."""
    if host == "unix":
        return None
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
