"""``daemons call --list`` over XML-RPC: number of requests, and invalid lists."""

from __future__ import annotations

import xmlrpc.client
from typing import Any

import pytest

from daemons.clients.rpc.rpc import Endpoint, ProtocolError
from daemons.clients.rpc.xml_rpc import XMLCaller
from tests.clients.rpc.canned import http_response, serving, url

__all__ = ["url"]


def test_methods_are_listed_in_few_requests(url: str) -> None:
    caller = Counted(Endpoint.of(url, timeout=10))
    listed = caller.list_methods()
    assert len(caller.requests) == 2
    assert listed == Single(Endpoint.of(url, timeout=10)).list_methods()
    assert [name for name, _, _ in listed] == sorted({name for name, _, _ in listed})


class Counted(XMLCaller):
    """A client that records the methods of its requests."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.requests: list[str] = []

    def _call(self, method: str, params: Any, repeatable: bool) -> Any:
        self.requests.append(method)
        return super()._call(method, params, repeatable)


class Single(Counted):
    """A client of a server without system.multicall."""

    def _call(self, method: str, params: Any, repeatable: bool) -> Any:
        found = super()._call(method, params, repeatable)
        assert method != "system.multicall"
        return [name for name in found if name != "system.multicall"] if method == "system.listMethods" else found


@pytest.mark.parametrize(
    ("listed", "reason"), [("<a/>", "sent malformed"), (["a"] * 10_001, "listed 10001 methods; at most 10000 are")]
)
def test_invalid_list_of_methods_is_refused(listed: Any, reason: str) -> None:
    body = listed.encode() if isinstance(listed, str) else xmlrpc.client.dumps((listed,), methodresponse=True).encode()
    with serving(http_response(body)) as (where, _), pytest.raises(ProtocolError, match=reason):
        XMLCaller(Endpoint.of(where, timeout=10)).list_methods()


def test_duplicate_method_is_described_once() -> None:
    names = xmlrpc.client.dumps((["b", "a", "b", "system.x"],), methodresponse=True).encode()
    way = xmlrpc.client.dumps(([["int"]],), methodresponse=True).encode()
    text = xmlrpc.client.dumps(("Help",), methodresponse=True).encode()
    with serving(*map(http_response, (names, way, text, way, text))) as (where, requests):
        assert XMLCaller(Endpoint.of(where, timeout=10)).list_methods() == [
            ("b", "b(['int'])", "Help"),
            ("a", "a(['int'])", "Help"),
        ]
    assert len(requests) == 5
