"""Reader and writer of XML-RPC."""

from __future__ import annotations

import xmlrpc.client
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.reader import REMEMBERED_LENGTH, VALUES, Reader
from daemons.rpc.xml.writer import DEPTH, Writer

SIMPLE = b"<methodCall><methodName>add</methodName><params>%b</params></methodCall>"

text = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=9
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**31), 2**31 - 1),
        st.floats(allow_nan=False),
        text,
        st.binary(max_size=80),
        st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda each: each.replace(microsecond=0)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=40)
@given(values)
def test_writer_matches_the_standard_library(value: Any) -> None:
    written = Writer(allow_none=True).response(value)
    assert written.decode() == xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True)
    assert xmlrpc.client.loads(written, use_builtin_types=True) == ((value,), None)
    # And back: our reader accepts the output of the standard library.
    call = xmlrpc.client.dumps((value, value), "x.y:z", allow_none=True).encode()
    assert Writer(allow_none=True).call("x.y:z", (value, value)) == call
    assert Reader(use_builtin_types=True).read(call) == ("x.y:z", (value, value))


def test_cached_calls_equal_parsed_ones() -> None:
    reader = Reader()
    for n in range(2000):
        data = SIMPLE % (b"<param><value><int>%d</int></value></param>" % n)
        assert reader.read(data) == reader.read(data) == ("add", (n,))
    assert len(reader._known) < 1100
    long = SIMPLE % (b"<param><value>%b</value></param>" % (b"x" * REMEMBERED_LENGTH))
    assert reader.read(long) == ("add", ("x" * REMEMBERED_LENGTH,))
    assert long not in reader._known.table


def nested(depth: int) -> bytes:
    before, behind = b"<value><array><data>" * depth, b"</data></array></value>" * depth
    return SIMPLE % (b"<param>%b<value/>%b</param>" % (before, behind))


def of(value: bytes) -> bytes:
    return SIMPLE % (b"<param><value>%b</value></param>" % value)


def member(inside: bytes) -> bytes:
    return of(b"<struct>%b</struct>" % inside)


NAMED = b"<member><name>a</name><value>1</value></member>"


NO_CALLS = [
    (b"", "not XML: no element found"),
    (b"add 3 5", "not XML: syntax error"),
    (SIMPLE[:-5] % b"", "not XML: unclosed token"),
    (b"<?xml version='1.0' encoding='no-such'?>" + SIMPLE % b"", "not XML: the encoding 'no-such' is not accepted"),
    (b"<?xml version='1.0' encoding='utf-8'?>" + of(b"\xff"), "not XML: byte 100 is not utf-8"),
    (b"<!DOCTYPE x><methodCall/>", "document type declarations are not allowed"),
    (
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + of(b"&b;"),
        "document type declarations are not allowed",
    ),
    (b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + of(b""), "document type declarations are not allowed"),
    (b"<methodCall/>", "missing <methodName>"),
    (b"<methodResponse/>", "<methodResponse> is not allowed in a document"),
    (b"<methodCall><params/></methodCall>", "expected one <params>, after <methodName>"),
    (
        b"<methodCall><methodName>a</methodName><methodName>b</methodName></methodCall>",
        "two <methodName>",
    ),
    (SIMPLE % b"<param/>", "missing <value> in <param>"),
    (SIMPLE % b"<param><value/><value/></param>", "two <value> in one <param>"),
    (SIMPLE % b"<param>a<value/></param>", "text between the elements in <param>"),
    (of(b"a<int>1</int>"), "text between the elements in <value>"),
    (of(b"<int>1</int>a"), "text between the elements in <value>"),
    (of(b"<int>1</int><int>1</int>"), "two elements in one <value>"),
    (of(b"<int><b/></int>"), "<b> is not allowed in <int>"),
    (of(b"<bigdecimal>1</bigdecimal>"), "<bigdecimal> is not allowed in <value>"),
    (of(b"<array/>"), "missing <data> in <array>"),
    (of(b"<array><data/><data/></array>"), "two <data> in one <array>"),
    (member(NAMED * 2), "two members with the same name"),
    (member(b"<member><name>a</name></member>"), "expected a <name> and a <value>"),
    (member(b"<member><name>a</name><name>b</name></member>"), "two <name>"),
    (member(b"<member><name>a</name><value/><value/></member>"), "two <value> in one <member>"),
    (of(b"<int>2147483648</int>"), "2147483648 does not fit into an <int> of 32 bits"),
    (of(b"<i8>%d</i8>" % 2**63), f"{2**63} does not fit into an <i8> of 64 bits"),
    (of(b"<int>%b</int>" % (b"9" * 100_000)), "not a valid int: '9999"),
    (of(b"<int>1_0</int>"), "not a valid int: '1_0'"),
    (of(b"<boolean>2</boolean>"), "not a valid boolean: '2'"),
    (of(b"<double>0x1</double>"), "not a valid double: '0x1'"),
    (of(b"<base64>a</base64>"), "not a valid base64: 'a'"),
    (of(b"<base64>YQ==YQ==</base64>"), "not a valid base64: 'YQ==YQ=='"),
    (of(b"<base64>Y*Q==</base64>"), "not a valid base64: 'Y*Q=='"),
    (of(b"<base64>Y=Q=</base64>"), "not a valid base64: 'Y=Q='"),
    (of(b"<dateTime.iso8601>20260230T00:00:00</dateTime.iso8601>"), "not a valid dateTime.iso8601"),
    (of(b"<nil>0</nil>"), "not a valid nil: '0'"),
    (nested(DEPTH + 1), f"nested more than {DEPTH} deep"),
    (SIMPLE % (b"<param><value/></param>" * (VALUES + 1)), f"more than {VALUES} values"),
    (SIMPLE % (b"<param><value></value></param>" * (VALUES + 1)), f"more than {VALUES} values"),
]


@pytest.mark.parametrize("number", range(len(NO_CALLS)))
def test_malformed_call_is_refused_with_the_reason(number: int) -> None:
    data, reason = NO_CALLS[number]
    with pytest.raises(UnreadableError) as caught:
        Reader(use_builtin_types=True).read(data)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("data", "call"),
    [
        (b"<methodCall><methodName> a b </methodName></methodCall>", (" a b ", ())),
        (nested(DEPTH)[:0] + nested(1), ("add", ([""],))),
        (of(b"<ex:nil/>"), ("add", (None,))),
        (of(b"<i8>%d</i8>" % 2**40), ("add", (2**40,))),
        (of(b"<double> +.5 </double>"), ("add", (0.5,))),
        (of(b"a&#13;\r\n<![CDATA[<b>]]>&lt;"), ("add", ("a\r\n<b><",))),
        (of(b"<dateTime.iso8601>2026-02-28T01:02:03</dateTime.iso8601>"), ("add", (datetime(2026, 2, 28, 1, 2, 3),))),
        (member(NAMED), ("add", ({"a": "1"},))),
        (
            "<?xml version='1.0' encoding='utf-16'?>".encode("utf-16")
            + of(b"\xff").decode("latin-1").encode("utf-16")[2:],
            ("add", ("ÿ",)),
        ),
    ],
)
def test_unusual_but_valid_calls_are_read(data: bytes, call: object) -> None:
    assert Reader(use_builtin_types=True).read(data) == call


def test_without_builtin_types_there_are_the_standard_librarys() -> None:
    moment = of(b"<dateTime.iso8601>20260228T01:02:03</dateTime.iso8601>")
    assert Reader().read(moment) == ("add", (xmlrpc.client.DateTime("20260228T01:02:03"),))
    assert Reader(True).read(of(b"<base64>\n Y\tQ\r\n==\n</base64>")) == ("add", (b"a",))
    assert Reader().read(of(b"<base64>YQ==</base64>")) == ("add", (xmlrpc.client.Binary(b"a"),))
    assert Reader().read(of(b"a").decode()) == ("add", ("a",))


def deep(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth - 1):
        found = [found]
    return found


circle: list[Any] = []
circle.append(circle)


class Kept:
    def __init__(self) -> None:
        self.secret = "the quest"

    def __repr__(self) -> str:
        # For the name of the test, which must be the same in all processes.
        return "Kept()"


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (2**31, OverflowError, "int exceeds the XML-RPC limits of 32 bits"),
        ({1: "a"}, TypeError, "dictionary key must be string, not int"),
        (Kept(), TypeError, "cannot marshal <class 'tests.rpc.xml.test_reader.Kept'> objects"),
        ({1, 2}, TypeError, "cannot marshal <class 'set'> objects"),
        ("a\0b", ValueError, "cannot marshal the character U+0000; send bytes"),
        ("\ud800", ValueError, "cannot marshal the character U+D800; send bytes"),
        (deep(DEPTH + 1), ValueError, f"cannot marshal values nested more than {DEPTH} deep"),
        (circle, ValueError, f"cannot marshal values nested more than {DEPTH} deep"),
        (None, TypeError, "cannot marshal None unless allow_none is enabled"),
    ],
    ids=range(9),
)
def test_value_that_cannot_be_marshaled_is_refused(value: object, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind) as caught:
        Writer().response(value)
    assert str(caught.value) == reason


def test_writer_supports_other_encodings() -> None:
    written = Writer(encoding="iso-8859-15").response("€ ω")
    assert b"encoding='iso-8859-15'" in written
    assert b"\xa4 &#969;" in written
    assert xmlrpc.client.loads(written) == (("€ ω",), None)
    assert xmlrpc.client.loads(Writer().response("a\rb"))[0] == ("a\rb",)
    assert Writer().response(deep(DEPTH)).count(b"<array>") == DEPTH
    assert Writer().response(xmlrpc.client.Binary(b"a")) == Writer().response(bytearray(b"a"))
    assert b">20260228T01:02:03<" in Writer().response(xmlrpc.client.DateTime("20260228T01:02:03"))


def test_a_fault_can_always_be_sent() -> None:
    written = Writer().fault(xmlrpc.client.Fault(7, "a\0\ud800<b>\n"))
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(written)
    assert (caught.value.faultCode, caught.value.faultString) == (7, "a<b>\n")
    for code in (2**31, "seven"):
        assert b"<int>1</int>" in Writer().fault(xmlrpc.client.Fault(code, "a"))  # type: ignore[arg-type]
