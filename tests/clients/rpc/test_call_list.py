"""``daemons call --list`` over XML-RPC: methods, described in few requests."""

from __future__ import annotations

import xmlrpc.client
from typing import Any

import pytest

from daemons.clients.rpc.rpc import Place, ProtocolError
from daemons.clients.rpc.xml_rpc import XMLCaller
from tests.clients.rpc.test_call import answer, answering, url

__all__ = ["url"]


def test_methods_are_described_in_few_requests(url: str) -> None:
    asked = Counted(Place.of(url, timeout=10))
    listed = asked.listed()
    assert len(asked.requests) == 2
    assert listed == Single(Place.of(url, timeout=10)).listed()
    assert [name for name, _, _ in listed] == sorted({name for name, _, _ in listed})


class Counted(XMLCaller):
    """Notes the methods of its requests."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.requests: list[str] = []

    def _call(self, method: str, params: Any, repeatable: bool) -> Any:
        self.requests.append(method)
        return super()._call(method, params, repeatable)


class Single(Counted):
    """Calls a server that has no system.multicall."""

    def _call(self, method: str, params: Any, repeatable: bool) -> Any:
        found = super()._call(method, params, repeatable)
        assert method != "system.multicall"
        return [name for name in found if name != "system.multicall"] if method == "system.listMethods" else found


@pytest.mark.parametrize(
    ("listed", "reason"), [("<a/>", "has sent malformed"), (["a"] * 10_001, "has listed 10001 methods; 10000 are")]
)
def test_list_of_methods_that_is_none_is_refused(listed: Any, reason: str) -> None:
    body = listed.encode() if isinstance(listed, str) else xmlrpc.client.dumps((listed,), methodresponse=True).encode()
    with answering(answer(body)) as (where, _), pytest.raises(ProtocolError, match=reason):
        XMLCaller(Place.of(where, timeout=10)).listed()


def test_method_that_is_listed_twice_is_described_once() -> None:
    names = xmlrpc.client.dumps((["b", "a", "b", "system.x"],), methodresponse=True).encode()
    way = xmlrpc.client.dumps(([["int"]],), methodresponse=True).encode()
    text = xmlrpc.client.dumps(("Help",), methodresponse=True).encode()
    with answering(*map(answer, (names, way, text, way, text))) as (where, asked):
        assert XMLCaller(Place.of(where, timeout=10)).listed() == [
            ("b", "b(['int'])", "Help"),
            ("a", "a(['int'])", "Help"),
        ]
    assert len(asked) == 5
