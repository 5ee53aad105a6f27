"""XML-RPC over HTTP."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import daemons.rpcmath
from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from tests.promises.grammars.grammar import COUNT, RECORDS, Feed, Grammar, converse, filled, word
from tests.rpc.calling import request, server_for

#: Bytes of a body: [limits] body.
SIZE = 1024 * 1024


def serve_xml(folder: Path) -> Feed:
    handler, kind = server_for(daemons.rpcmath)
    server = kind(("127.0.0.1", 80), handler, bind_and_activate=False)
    server.server_close()  # conversations here need no socket

    def feed(body: bytes) -> int:
        conversation: Conversation = server.make_conversation(Connection(server.socket, ("192.0.2.7", 4242), 1.0))
        return converse(conversation, request(body) if body[:5] != b"POST " else body)

    return feed


def document(value: bytes, head: bytes = b"<?xml version='1.0'?>", method: bytes = b"remote_repr") -> bytes:
    params = b"<params><param><value>%b</value></param></params>" % value
    return b"%b<methodCall><methodName>%b</methodName>%b</methodCall>" % (head, method, params)


def unlike_xml(number: int) -> bytes:
    long, text = word(number, 65_536).encode(), word(number, 12).encode()
    kinds = [
        *(document(b"a", b"<?xml version='1.0' encoding='%b'?>" % each) for each in (long, text)),
        document(b"a", b"<?xml version='1.0' encoding='%b'?>" % text).decode().encode("utf-16"),
        document(b"a", b"<?xml version='%b'?>" % text),
        document(b"<%b>1</%b>" % (long, long)),
        document(b"<x:%b xmlns:x='%b'/>" % (text, long)),
        document(b"<int %b='1'>1</int>" % long),
        document(b"<int a%b='1' b%b='2'>1</int>" % (text, text)),
        document(b"<struct><member><name>%b</name><value/></member></struct>" % long),
        document(b"<!--%b--><?%b a?>&%b;" % (text, text, text)),
        document(b"a", b"<!DOCTYPE %b SYSTEM '%b'>" % (text, long)),
        document(b"a", b"<!DOCTYPE x [<!ENTITY %b '%b'>]>" % (text, text)),
        document(b"<dateTime.iso8601>%b</dateTime.iso8601>" % text),
        document(b"<int>%d</int>" % number),
        document(b"<double>%d.5</double>" % number),
        document(b"<string>%b</string>" % long),
        document(b"a", method=long),
        document(b"a", method=text),
        document(text, method=b"system.methodHelp"),
        request(document(b"a"), f"X-{word(number, 4000)}: {word(number, 4000)}"),
        request(document(b"a"), f"Content-Type: text/xml; charset={word(number, 40)}"),
        request(document(b"a"), f"Content-Encoding: {word(number, 40)}"),
        request(document(b"a" * 3000), f"Accept-Encoding: gzip, {word(number, 40)}"),
        request(document(b"a"), f"Authorization: {word(number, 20)} {word(number, 900)}"),
        request(document(b"a"), f"Origin: http://{word(number, 40)}.example"),
        request(document(b"a"), path=f"/{word(number, 900)}"),
    ]
    return kinds[number % len(kinds)]


def array(unit: bytes, size: int, most: int = 19_990) -> bytes:
    before, _, behind = document(b"<array><data>|</data></array>").partition(b"|")
    return filled(before, unit, behind, size, most=most)


def text(unit: bytes, size: int, kind: bytes = b"string") -> bytes:
    before, _, behind = document(b"<%b>|</%b>" % (kind, kind)).partition(b"|")
    return filled(before, unit, behind, size)


def calls(method: str, *params: Any) -> bytes:
    many = [{"methodName": method, "params": list(params)}] * 1000
    return xmlrpc.client.dumps((many,), "system.multicall").encode()


def adversarial_xml(size: int) -> Mapping[str, bytes]:
    size -= 500
    units = [
        b"<!--a-->",
        b"<?a b?>",
        b"<![CDATA[a]]>",
        b"<![CDATA[]]>",
        b"&lt;",
        b"&#65;",
        b"\r\n",
        b"]]",
        b"\0",
        b"\xff",
    ]
    kinds = ["int", "double", "boolean", "dateTime.iso8601", "base64", "nil"]
    made = {f"text of {unit!r}": text(unit, size) for unit in units}
    made |= {
        f"{kind} of {unit!r}": text(unit, size, kind.encode()) for kind in kinds for unit in (b" ", b"1", b"=", b"-")
    }
    members = b"".join(b"<member><name>%d</name><value/></member>" % n for n in range(18_000))
    attributes = b" ".join(b'a%d=""' % n for n in range(90_000))
    made |= {
        "values": array(b"<value/>", size),
        "too many values": array(b"<value/>", size, 10**9),
        "values with attributes": array(b'<value a=""/>', size),
        "members": document(b"<struct>%b</struct>" % members),
        "attributes": document(b"<int %b>1</int>" % attributes),
        "one long attribute": document(filled(b"<int a='", b"&lt;", b"'>1</int>", size)),
        "dates": array(b"<value><dateTime.iso8601>20200101T00:00:00</dateTime.iso8601></value>", size),
        "long doubles": array(b"<value><double>%b.1</double></value>" % (b"1" * 400), size),
        "too deep": filled(b"", b"<value><array><data>", b"", size),
        "parameters": filled(
            b"<methodCall><methodName>addtogether</methodName><params>", b"<param><value/></param>", b"", size
        ),
        "prefixes": filled(b"<", b"a:", b"/>", size),
        "blanks": filled(b"", b" ", b"<a/>", size),
        "blanks in the declaration": filled(b"<?xml version='1.0'", b" ", b"?>", size),
        "lists to add": xmlrpc.client.dumps(([1],) * 6000, "addtogether").encode(),
        "lists and a number to add": xmlrpc.client.dumps((*[[1]] * 6000, 1), "addtogether").encode(),
        "strings and a number to add": xmlrpc.client.dumps((*["a" * 20] * 14_000, 1), "addtogether").encode(),
        "strings to add": xmlrpc.client.dumps(("a" * 20,) * 14_000, "addtogether").encode(),
        "utf-16": document(b"a" * (size // 2 - 300)).decode().encode("utf-16"),
        "declarations": filled(b"", b"<!", b"", size),
        "almost a simple call": filled(
            b"<methodCall><methodName>a</methodName><params>",
            b"<param><value><int>1</int></value></param>  ",
            b"</params></methodCall>;",
            16_000,
        ),
    }
    for method in (
        "system.listMethods",
        "system.methodHelp",
        "system.methodSignature",
        "elements",
        "x",
        "system.multicall",
    ):
        made[f"multicall of {method}"] = calls(method, *(["quadratic"] if method[7:13] == "method" else []))
    return made


def honest_xml(size: int) -> bytes:
    one = len(xmlrpc.client.dumps((RECORDS,), "remote_repr"))
    return xmlrpc.client.dumps((RECORDS * (size // one),), "remote_repr").encode()


GRAMMARS = (Grammar("XML-RPC", serve_xml, unlike_xml, honest_xml, adversarial_xml, SIZE, count=COUNT),)
