"""Access rules by network, and their syntax."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.serving.conversation.endings import Refusal
from daemons.serving.guards.access import NETWORKS, Access, parse_networks


def access(allow: str = "", deny: str = "", proxies: str = "") -> Access:
    return Access(parse_networks(allow), parse_networks(deny), parse_networks(proxies))


@pytest.mark.parametrize(
    ("allow", "deny", "host", "verdict"),
    [
        ("", "", "192.0.2.7", None),
        ("", "", "2001:db8::1", None),
        ("127.0.0.1", "", "127.0.0.1", None),
        ("127.0.0.1", "", "127.0.0.2", Refusal.UNLISTED),
        ("127.0.0.1", "", "::ffff:127.0.0.1", None),
        ("127.0.0.1", "", "::1", Refusal.UNLISTED),
        ("", "10.0.0.0/8", "10.1.2.3", Refusal.DENIED),
        ("", "10.0.0.0/8", "::ffff:10.1.2.3", Refusal.DENIED),
        ("", "10.0.0.0/8", "11.1.2.3", None),
        # The most specific one decides, whichever list it is in.
        ("192.0.2.0/24", "192.0.2.7", "192.0.2.7", Refusal.DENIED),
        ("192.0.2.0/24", "192.0.2.7", "192.0.2.8", None),
        ("192.0.2.7", "192.0.2.0/24", "192.0.2.7", None),
        ("192.0.2.7", "192.0.2.0/24", "192.0.2.8", Refusal.DENIED),
        ("192.0.2.7", "192.0.2.0/24", "10.0.0.1", Refusal.UNLISTED),
        ("127.0.0.0/8", "0.0.0.0/0 ::/0", "127.0.0.1", None),
        ("127.0.0.0/8", "0.0.0.0/0 ::/0", "::1", Refusal.DENIED),
        # A tie is denied.
        ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.1", Refusal.DENIED),
        # A Unix peer has no address; the mode of the socket's file is its rule.
        ("192.0.2.7", "0.0.0.0/0 ::/0", "unix", None),
        # A link-local peer comes with the interface it is on.
        ("fe80::/10", "", "fe80::1%eth0", None),
    ],
)
def test_the_most_specific_network_decides(allow: str, deny: str, host: str, verdict: Refusal | None) -> None:
    assert access(allow, deny).refusal(host) is verdict


def test_a_verdict_is_remembered_and_a_bound_number_of_them() -> None:
    rules = access(allow="10.0.0.0/8")
    for number in range(10_000):
        rules.refusal(str(ipaddress.ip_address(number)))
    information = rules.refusal.cache_info()  # type: ignore[attr-defined]
    assert information.currsize == information.maxsize == 4096


def test_no_peer_is_a_proxy_unless_named() -> None:
    assert not access().is_proxy("127.0.0.1")
    rules = access(proxies="192.0.2.0/28 ::1")
    assert [rules.is_proxy(host) for host in ("192.0.2.15", "192.0.2.16", "::1", "unix")] == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("localhost", "localhost is not a network; write numbers"),
        ("camelot.example/24", "write numbers"),
        ("127.0.0.1/255.0.0.0", "write numbers"),
        ("fe80::1%eth0", "write numbers"),
        ("300.1.1.1", "300.1.1.1 is not a network"),
        ("10.0.0.0/33", "10.0.0.0/33 is not a network"),
        ("10.1.2.3/8", "write 10.0.0.0/8, or the address alone"),
        ("::ffff:10.0.0.0/104", "write 10.0.0.0/8, which holds for both"),
        ("::ffff:192.0.2.7", "write 192.0.2.7, which holds for both"),
        ("010.0.0.1", "010.0.0.1 is not a network"),
    ],
)
def test_only_numbers_are_networks(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="is ") as raised:
        NETWORKS.parse(text)
    assert complaint in str(raised.value)


def test_every_malformed_network_is_reported() -> None:
    with pytest.raises(ValueError, match=r"localhost is not .*; 10\.1\.2\.3/8 is an address"):
        NETWORKS.parse("localhost ::1 10.1.2.3/8")


def test_networks_are_shown_as_they_are_written() -> None:
    text = "127.0.0.0/8 192.0.2.7 ::1 2001:db8::/32 0.0.0.0/0 ::/0"
    assert NETWORKS.show(NETWORKS.parse(text)) == text
    assert NETWORKS.parse("") == ()


ADDRESSES = st.ip_addresses()


@given(
    st.lists(st.tuples(ADDRESSES, st.integers(0, 128)), max_size=6),
    st.lists(st.tuples(ADDRESSES, st.integers(0, 128)), max_size=6),
    ADDRESSES,
)
def test_the_verdict_is_that_of_the_longest_prefix(
    allow: list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]],
    deny: list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]],
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    def networks(
        pairs: list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]],
    ) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        return tuple(
            ipaddress.ip_network((each, min(length, each.max_prefixlen)), strict=False) for each, length in pairs
        )

    allowed, denied = networks(allow), networks(deny)
    mapped = getattr(address, "ipv4_mapped", None) or address
    best = max((network.prefixlen for network in (*allowed, *denied) if mapped in network), default=None)
    if best is None:
        expected = Refusal.UNLISTED if allowed else None
    elif any(network.prefixlen == best and mapped in network for network in denied):
        expected = Refusal.DENIED
    else:
        expected = None
    assert Access(allowed, denied).refusal(str(address)) is expected
