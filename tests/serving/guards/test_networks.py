"""The network that counts as one peer."""

from __future__ import annotations

import pytest

from daemons.serving.guards.networks import peer_network


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::%eth0/64"),
        ("fe80::2%eth0", "fe80::%eth0/64"),
        ("fe80::2%br-lan", "fe80::%br-lan/64"),
        ("unix", "unix"),
        ("unix:pid=42,uid=1000", "unix:pid=42,uid=1000"),
        ("", ""),
    ],
)
def test_addresses_that_one_host_may_choose_from_are_one_peer(host: str, network: str) -> None:
    assert peer_network(host) == network
