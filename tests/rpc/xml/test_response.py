"""XML-RPC responses: those that `xmlrpc.client` writes are read, and its leniencies are refused."""

from __future__ import annotations

import xmlrpc.client
from datetime import datetime
from typing import Any

import pytest

from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.response import ResponseBuilder


def response(value: str) -> bytes:
    return f"<methodResponse><params><param><value>{value}</value></param></params></methodResponse>".encode()


@pytest.mark.parametrize(
    "value",
    [
        *(
            7,
            -(2**31),
            True,
            False,
            1.5,
            float("inf"),
            None,
            "",
            "text",
            "a & b\n",
            b"bytes",
            datetime(2025, 10, 12, 8),
        ),
        *([], [1, [2, "x"], {}], {"a": [None], "": 1}, [[[[1]]]]),
    ],
)
def test_responses_of_the_standard_library_are_read(value: Any) -> None:
    body = xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode()
    assert ResponseBuilder().read(body) == value


def test_a_fault_is_raised() -> None:
    body = xmlrpc.client.dumps(xmlrpc.client.Fault(4, "Too many parameters.")).encode()
    with pytest.raises(xmlrpc.client.Fault) as caught:
        ResponseBuilder().read(body)
    assert (caught.value.faultCode, caught.value.faultString) == (4, "Too many parameters.")


def test_a_long_list_is_read() -> None:
    assert (
        ResponseBuilder().read(response(f"<array><data>{'<value><i4>1</i4></value>' * 50_000}</data></array>"))
        == [1] * 50_000
    )


OF_FAULT = "<methodResponse><fault>{}</fault></methodResponse>"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<methodResponse/>",
        b"<methodResponse><params/></methodResponse>",
        b"<methodResponse><params><param/></params></methodResponse>",
        b"<methodResponse><fault/></methodResponse>",
        b"<methodCall><methodName>a</methodName></methodCall>",
        b"<anything><params><param><value>a</value></param></params></anything>",
        b"<params><param><value>a</value></param></params>",
        response("a").replace(b"<param>", b"<param><value>b</value></param><param>"),
        response("a").replace(b"<methodResponse>", b"<methodResponse><methodName>b</methodName>"),
        response("a").replace(b"<params>", b"<fault><value>b</value></fault><params>"),
        response("a").replace(b"</params>", b"</params><fault><value>b</value></fault>"),
        response("a").replace(b"<params>", b"text<params>"),
        response("a") + b"<x/>",
        response("<i4>1_0</i4>"),
        response("<i4>\u0661</i4>"),
        response("<i4>1.0</i4>"),
        response("<i4>4294967296</i4>"),
        response("<double>1_0.5</double>"),
        response("<boolean>2</boolean>"),
        response("<base64>*</base64>x"),
        response("<dateTime.iso8601>20259999T00:00:00</dateTime.iso8601>"),
        response("<i4>1</i4><i4>2</i4>"),
        response("<unknown>1</unknown>"),
        response("<struct><member><name>a</name></member></struct>"),
        response("<array><data>" * 70 + "</data></array>" * 70),
        OF_FAULT.format("<value>text</value>").encode(),
        OF_FAULT.format(
            "<value><struct><member><name>faultCode</name><value>1</value></member></struct></value>"
        ).encode(),
        b'<?xml version="1.0" encoding="unicode_escape"?>' + response("a"),
        b"<!DOCTYPE a>" + response("a"),
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + response("&b;"),
    ],
)
def test_other_documents_are_refused(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        ResponseBuilder().read(body)
