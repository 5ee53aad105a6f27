"""The fast path for simple XML-RPC calls, compared with the full reader."""

from __future__ import annotations

import xmlrpc.client
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.fast_path import read_simply
from daemons.rpc.xml.reader import Reader, read_fully

SIMPLE = b"<methodCall><methodName>add</methodName><params>%b</params></methodCall>"

#: Pieces of calls and of documents that are nearly calls.
PIECES = [
    *(b"<value>", b"</value>", b"<int>", b"</int>", b"<i4>", b"</i4>", b"<string>", b"</string>", b"<param>"),
    *(b"</param>", b"<boolean>", b"</boolean>", b"<double>", b"</double>", b"<value/>", b"<nil/>", b"<!--x-->"),
    *(b"1", b"-7", b"+07", b"2147483648", b"999999999", b"1e5", b"1.", b"-0.5E-3", b" ", b"\n", b"\r\n", b"\t"),
    *(b"a", b"&amp;", b"&", b"]]>", b">", b"'", b'"', b"\xc3\xbf", b"\x00", b"\x7f", b"nan", b"true", b"]]"),
]

octets = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join)
value = st.one_of(
    octets,
    st.integers(-(10**10), 10**10).map(lambda each: b"<int>%d</int>" % each),
    st.sampled_from([b"0", b"1", b"2", b" 1"]).map(lambda each: b"<boolean>%b</boolean>" % each),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda each: b"<double>%b</double>" % repr(each).encode()),
    st.text(max_size=5).map(lambda each: b"<string>%b</string>" % each.encode("utf-8", "replace")),
)
blank = st.sampled_from([b"", b" ", b"\r\n", b"\n\t"])
parameter = st.tuples(blank, value, blank).map(lambda each: b"%b<param><value>%b</value>%b</param>" % each)
head = st.sampled_from(
    [
        *(b"", b"\n", b"<?xml version='1.0'?>\n", b'<?xml version="1.0" encoding="UTF-8"?>', b"<?xml version='1.1'?>"),
        *(b"<?xml version='1.0' encoding='us-ascii' ?>", b"<?xml version='1.0' encoding='latin-1'?>", b"\n<?xml ?>"),
    ]
)
calls = st.one_of(
    st.tuples(head, st.lists(st.one_of(parameter, octets), max_size=4)).map(
        lambda each: each[0] + SIMPLE % b"".join(each[1])
    ),
    octets,
)


def agree(data: bytes) -> bool:
    """Return whether the fast path accepts `data`, and check that the full reader reads the same call."""
    quick = read_simply(data)
    if quick is None:
        return False
    full = read_fully(data)
    assert quick == full
    assert [type(each) for each in quick[1]] == [type(each) for each in full[1]]
    return True


@given(calls)
def test_full_reader_makes_the_same_call_of_pieces(data: bytes) -> None:
    agree(data)


#: A simple call of every type, with every place where XML allows white space.
GOOD = (
    b"<?xml version='1.0' encoding='utf-8'?>\n<methodCall>\n<methodName>add</methodName>\n<params>\n"
    b"<param>\n<value><int>-3</int></value>\n</param>\n<param><value><boolean>1</boolean></value></param>\n"
    b"<param><value><double>1.5e3</double></value></param><param><value><string>a b</string></value></param>"
    b"<param><value>text</value></param>\n</params>\n</methodCall>\n"
)


def test_full_reader_makes_the_same_call_of_every_changed_byte() -> None:
    """Every byte value in place of every byte, and before it: also those that some `\\s` or `.` would accept."""
    accepted = 0
    for position in range(len(GOOD) + 1):
        for octet in range(256):
            byte = bytes([octet])
            accepted += agree(GOOD[:position] + byte + GOOD[position + 1 :])
            accepted += agree(GOOD[:position] + byte + GOOD[position:])
    assert agree(GOOD)
    assert accepted > len(GOOD)


tokens = st.sampled_from(
    [
        *(b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xa0", b"\0", b"\x7f", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b" ", b"\n"),
        *(
            b"<!---->",
            b"<?a b?>",
            b"<![CDATA[a]]>",
            b"&#10;",
            b"&#x0;",
            b"]]>",
            b"<!DOCTYPE x>",
            b"<x/>",
            b"0",
            b"+",
            b".",
        ),
        *(b"<param>", b"</param>", b"<params>", b"</params>", b"<value>", b"</value>", b"<methodName>a</methodName>"),
        *(b"<methodCall>", b"</methodCall>", b"<nil/>", b"<int/>", b"<value/>", b"<string/>", b";X", b"<int>1</int>"),
    ]
)


@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), tokens), max_size=4))
def test_full_reader_makes_the_same_call_of_a_mutated_one(changes: list[tuple[int, int, bytes]]) -> None:
    data = GOOD
    for position, removed, token in changes:
        data = data[:position] + token + data[position + removed :]
    agree(data)


@pytest.mark.parametrize(
    "data",
    [
        GOOD.replace(b"\n<methodCall>", b"\x0b<methodCall>"),
        GOOD.replace(b"</param>\n<param>", b"</param>\x0c<param>"),
        SIMPLE % b";X",
        SIMPLE.replace(b"</params>", b"</params>;X") % b"",
        SIMPLE % b"<param><value><int>1</int></value></param><param>",
        SIMPLE % b"<param><value><int>1</int></value></param>;X",
        SIMPLE % b"<param></param>",
        SIMPLE % b"<value><int>1</int></value>",
        SIMPLE[:-1] % b"",
    ],
    ids=range(9),
)
def test_malformed_call_is_refused_by_both(data: bytes) -> None:
    assert read_simply(data) is None
    with pytest.raises(UnreadableError):
        Reader().read(data)


@settings(max_examples=40)
@given(st.lists(st.one_of(st.integers(-(10**9) + 1, 10**9 - 1), st.booleans(), st.sampled_from(["", "a b", "x y?"]))))
def test_fast_path_accepts_simple_calls_of_stock_clients(parameters: list[Any]) -> None:
    data = xmlrpc.client.dumps(tuple(parameters), "add").encode()
    assert read_simply(data) == ("add", tuple(parameters))
    assert [*map(type, (read_simply(data) or ("", ()))[1])] == [*map(type, parameters)]
