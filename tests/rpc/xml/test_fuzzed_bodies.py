"""Fuzzed calls get a response of the protocol, and never 500."""

from __future__ import annotations

import gzip
import json
import xmlrpc.client
from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

import daemons.rpcmath
from daemons.rpc.json.service import JSONRPC
from daemons.serving.conversation.conversation import Conversation
from tests.rpc.calling import post, request, visit
from tests.rpc.xml.test_fast_path import calls
from tests.web.talking import Response, responses, said

#: Besides nearly valid calls: decompression and entity bombs.
XML = st.one_of(
    calls,
    st.binary(max_size=60),
    st.sampled_from(
        [
            b'<!DOCTYPE x [<!ENTITY a "aaaa">]><methodCall><methodName>&a;</methodName></methodCall>',
            b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><methodCall/>',
            b"<methodCall><methodName>system.multicall</methodName><params><param><value>",
            b"<value><array><data>" * 200,
            b"\xff\xfe<\0?\0x\0m\0l\0",
            b'<?xml version="1.0" encoding="utf-7"?><methodCall/>',
            b'<?xml version="1.0" encoding="UTF-16"?><methodCall/>',
        ]
    ),
)
#: Declared content coding, and the encoder.
PACKED = st.sampled_from(
    [
        ("", bytes),
        ("gzip", gzip.compress),
        ("gzip", bytes),
        ("gzip", lambda body: gzip.compress(body)[:-1]),
        ("x-gzip", gzip.compress),
        ("br", bytes),
    ]
)

JSON = st.one_of(
    st.binary(max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("2.0"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["jsonrpc", "method", "params", "id", "__class__"]),
                inner | st.sampled_from(["2.0", "quadratic", "rpc.discover", "__class__", "remote_repr"]),
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(XML, PACKED, st.integers(0, 200))
@example(b"<methodCall><methodName>__class__</methodName></methodCall>", ("", bytes), 0)
@settings(max_examples=80)
def test_any_octets_are_a_call_of_xml_rpc_or_a_fault(body: bytes, packed: tuple[str, object], cut: int) -> None:
    """For any body, compressed or not, the response is a value, a fault, or an HTTP error; a fault contains no path, as
    a traceback would; and the conversation does not fail."""
    coding, pack = packed
    fields = [f"Content-Encoding: {coding}"] * bool(coding)
    with visit(daemons.rpcmath) as there:
        response = post(there, pack(body[: len(body) - cut] or body), *fields)  # type: ignore[operator]
        assert response.status in (200, 400, 413, 501)
        assert there.failure is None
    if response.status == 200:
        assert b".py" not in response.body
        with suppress(xmlrpc.client.Fault):
            xmlrpc.client.loads(response.body)


JSON_RPC = JSONRPC.of(daemons.rpcmath, "sums")


def _posted(body: bytes) -> Response:
    conversation = Conversation(JSON_RPC(JSON_RPC.Options()))
    assert conversation.open() == b""
    (response,) = responses(said(conversation, request(body, path="/")), ["POST"])
    assert conversation.failure is None
    conversation.close()
    return response


@given(JSON)
@example(b"[" * 100_000)
@example(b'{"jsonrpc":"2.0","method":"remote_repr","params":[' + b"9" * 5000 + b'],"id":1}')
@settings(max_examples=80)
def test_any_octets_are_a_call_of_json_rpc_or_an_error(body: bytes) -> None:
    """For any octets, the answer is 204 to what wants none, or 200 with what JSON-RPC says to a call, or to each of a
    batch: a result, or an error with a code."""
    response = _posted(body)
    if response.status == 204:
        assert response.body == b""
        return
    assert response.status == 200
    said = json.loads(response.body)
    for each in said if isinstance(said, list) else [said]:
        assert each["jsonrpc"] == "2.0"
        assert "id" in each
        assert ("result" in each) != ("error" in each)
        assert "error" not in each or isinstance(each["error"]["code"], int)
