"""XML-RPC and JSON-RPC over HTTP, JSON-RPC on lines, and RPyC."""

from __future__ import annotations

import json
import xmlrpc.client
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rpyc.core import brine, consts

import daemons.rpcmath
from daemons.linecount import LineCounter
from daemons.rpc.brine_limits import VALUES
from daemons.rpc.frames import Refused
from daemons.rpc.json_service import JSONRPC, LONGEST
from daemons.rpc.netrefs import Guarded
from daemons.serving.connection import Connection
from daemons.serving.conversation import Conversation
from daemons.serving.memory import Memory
from tests.promises.grammars.grammar import Feed, Grammar, converse, filled, word
from tests.rpc.calling import request, server_for

#: Bytes of a body: [limits] body.
XML_SIZE = 1024 * 1024
RPYC_SIZE = 64 * 1024

RECORDS = [{"number": number, "symbol": "Ne", "mass": 20.1797, "noble": True} for number in range(10)]


# --- XML-RPC ---------------------------------------------------------------------------------------


def serve_xml(folder: Path) -> Feed:
    handler, kind = server_for(daemons.rpcmath)
    server = kind(("127.0.0.1", 80), handler, bind_and_activate=False)
    server.server_close()  # its conversations need no socket

    def feed(body: bytes) -> int:
        conversation: Conversation = server.conversation(Connection(server.socket, ("192.0.2.7", 4242), 1.0))
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


# --- JSON-RPC --------------------------------------------------------------------------------------

JSON = JSONRPC.of(daemons.rpcmath, "sums")


def serve_json(framing: str) -> Callable[[Path], Feed]:
    def serve(folder: Path) -> Feed:
        service = JSON(JSON.Options(framing=framing))
        memory = Memory(service)
        if framing == "lines":
            return lambda text: converse(Conversation(service, memory), text + b"\n")
        return lambda text: converse(
            Conversation(service, memory), request(text, path="/") if text[:5] != b"POST " else text
        )

    return serve


def call(params: bytes = b"[]", method: str = "remote_repr", number: bytes = b"1", more: bytes = b"") -> bytes:
    return b'{"jsonrpc":"2.0","method":"%b","params":%b,"id":%b%b}' % (method.encode(), params, number, more)


def unlike_json(number: int) -> bytes:
    long, text = word(number, 32_768).encode(), word(number, 12).encode()
    return [
        call(b'["%b"]' % long),
        call(b'{"%b":1}' % long),
        call(b'{"a%b":1,"arg":2}' % text),
        call(b'[{"%b":{"%b":1}}]' % (long, text)),
        call(method=word(number, 32_768)),
        call(method=word(number, 12)),
        call(number=b'"%b"' % long),
        call(number=b"%d" % (number << 5000)),
        call(b"[%d.%d]" % (number, number)),
        call(more=b',"%b":1' % long),
        b'["%b"]' % long,
        b"[%b]" % text,
        call(b'["\\u%04x"]' % (number % 0xD800)),
    ][number % 13]


def unlike_json_http(number: int) -> bytes:
    if number % 2:
        return unlike_json(number // 2)
    text = word(number, 40)
    return [
        request(call(), f"Content-Type: application/{text}", path="/"),
        request(call(), f"Content-Type: application/json; charset={text}", path="/"),
        request(call(), f"X-{word(number, 4000)}: {word(number, 4000)}", path="/"),
        request(call(), f"Origin: http://{text}.example", path="/"),
        request(call(), f"Accept-Encoding: {text}", f"Content-Encoding: {text}", path="/"),
        request(call(), path=f"/{word(number, 900)}"),
        request(call(), path=f"/?{word(number, 900)}"),
        request(call(), method=text, path="/"),
    ][number // 2 % 8]


def adversarial_json(size: int) -> Mapping[str, bytes]:
    size -= 500

    def parameters(unit: bytes, method: str = "remote_repr", most: int = 10**9) -> bytes:
        before, _, behind = call(b"[|]", method).partition(b"|")
        return filled(before, unit, behind, size, b",", most)

    def texts(unit: bytes) -> bytes:
        before, _, behind = call(b'["|"]').partition(b"|")
        return filled(before, unit, behind, size)

    def batch(each: bytes) -> bytes:
        return filled(b"[", each, b"]", size, b",", 1000)

    units = [b"\\u00e9", b"\\ud83d\\ude00", b"\\ud83d", b'\\"', b"\\\\", b"[", b"\\[", b"\xc3\xa9", b"\xff", b"\x7f"]
    made = {f"text of {unit!r}": texts(unit) for unit in units}
    values = [
        b"1",
        b"1.5",
        b"1e5",
        b"1e400",
        b'""',
        b"[]",
        b"{}",
        b"null",
        b"[[]]",
        b"[1]",
        b'"a"',
        b"9" * 4300,
        b"1." + b"1" * 9999,
    ]
    made |= {f"parameters {value[:9]!r}": parameters(value) for value in values}
    made |= {
        f"sum of {value[:9]!r}": parameters(value, "addtogether")
        for value in (b"[1]", b'"a"', b"1", b"9" * 4200, b"{}")
    }
    made |= {
        f"{unit!r} alone": filled(b"", unit, b"", size)
        for unit in (b"[", b"]", b"{", b'{"":', b'"', b" ", b"-", b"1", b"\\")
    }
    members = b",".join(b'"%d":1' % n for n in range(20_000))
    made |= {
        "deep parameters": parameters(b"[" * 90 + b"]" * 90),
        "members": call(b"[{%b}]" % members),
        "named parameters": call(b"{%b}" % members, "quadratic"),
        "members of one name": call(filled(b"[{", b'"a":1', b"}]", size - 100, b",")),
        "quadratic of long numbers": call(b"[%b]" % b",".join([b"9" * 4300] * 3), "quadratic"),
        "batch of values": batch(b"1"),
        "batch of empty objects": batch(b"{}"),
        "batch of unknown methods": batch(call(method="x")),
        "batch of wrong parameters": batch(call(b"[1]", "quadratic")),
        "batch of rpc.discover": batch(call(method="rpc.discover")),
        "batch of elements": batch(call(method="elements")),
        "batch of errors": batch(call(b"[0,0,0]", "quadratic")),
        "one long integer": call(b"[%b]" % (b"1" * (size - 100))),
        "one long fraction": call(b"[1.%b]" % (b"1" * (size - 100))),
        "long id": call(number=b"9" * 4300),
    }
    return made


def honest_json(size: int) -> bytes:
    one = len(json.dumps(RECORDS))
    return call(json.dumps([RECORDS * (size // one)]).encode())


# --- RPyC ------------------------------------------------------------------------------------------


class Swallowed:
    """A channel whose peer never answers: for messages at the seam."""

    over = None
    closed = False

    def send(self, data: bytes) -> None:
        pass

    def poll(self, timeout: Any = None) -> bool:
        raise EOFError

    def close(self) -> None:
        self.closed = True


def serve_rpyc(folder: Path) -> Feed:
    def feed(message: bytes) -> None:
        channel: Any = Swallowed()
        conn = Guarded(LineCounter(), channel, "a peer")
        conn._box(conn._local_root)  # as after a request for it
        with suppress(Refused, EOFError):
            conn._dispatch(message)
        conn.close()

    return feed


def message(handler: Any, *boxed: Any, kind: int = consts.MSG_REQUEST, seq: Any = 1) -> bytes:
    data: bytes = bytes([kind]) + brine.dump((seq, (handler, (consts.LABEL_TUPLE, boxed))))
    return data


def by_value(value: Any) -> tuple[int, Any]:
    return consts.LABEL_VALUE, value


def netref(name: str, number: int) -> tuple[int, Any]:
    return consts.LABEL_REMOTE_REF, (name, number, number)


def unlike_rpyc(number: int) -> bytes:
    long, text, large = word(number, 32_768), word(number, 12), number << 64
    kinds: list[bytes] = [
        message(consts.HANDLE_PING, by_value(long)),
        message(consts.HANDLE_PING, netref(f"builtins.{text}", number)),
        message(consts.HANDLE_PING, netref(long, number)),
        message(consts.HANDLE_PING, *(netref(f"{text}.{n}", number) for n in range(90))),
        message(consts.HANDLE_PING, by_value((number, large, number / 7, text, text.encode()))),
        message(consts.HANDLE_GETATTR, by_value("a"), by_value(long)),
        message(consts.HANDLE_CALLATTR, netref(text, 1), by_value(text), (consts.LABEL_TUPLE, ())),
        message(consts.HANDLE_CALLATTR, by_value(1), by_value(text), by_value(()), by_value(((long, 1),))),
        message(consts.HANDLE_INSPECT, by_value((long, number, number))),
        message(large),
        message(number),
        message(consts.HANDLE_PING, seq=large),
        bytes([consts.MSG_EXCEPTION]) + brine.dump((number, (("builtins", text), (long,), ((text, 1),), long))),
        bytes([consts.MSG_EXCEPTION]) + brine.dump((number, ((text, text), (), (), ""))),
        bytes([consts.MSG_REPLY]) + brine.dump((number, netref(f"{text}.{text}", number))),
        bytes([number % 256]) + long.encode(),
    ]
    return kinds[number % len(kinds)]


def adversarial_rpyc(size: int) -> Mapping[str, bytes]:
    size -= 100
    prime = 2**61 - 1
    colliding = tuple(complex(-1000003.0 * k, k) for k in range(1, size // 17))

    def ping(encoded: bytes) -> bytes:
        """An encoded value in place of one that is not there."""
        before, _, behind = message(consts.HANDLE_PING, by_value("|")).partition(brine.dump("|"))
        return bytes(before + encoded + behind)

    return {
        "small integers": ping(brine.dump((1,) * (size - 10))),
        "as many values as are accepted": ping(brine.dump((1,) * (VALUES - 20))),
        "empty tuples": ping(brine.dump(((),) * (size - 10))),
        "deep tuples": ping(b"\x10" * size),
        "long integers": ping(b"\x14\x0e" + (b"\x17\0\0\x10\xcc" + b"9" * 4300) * 14),
        "integers with one hash": ping(b"\x1a" + brine.dump(tuple(k * prime for k in range(1, size // 24)))),
        "complex numbers with one hash": ping(b"\x1a" + brine.dump(colliding)),
        "slices": ping(b"\x15" + b"\0\0\x10\0" + b"\x19\x12\0\0\0" * 4096),
        "netrefs": message(consts.HANDLE_PING, *(netref("a", n) for n in range(60, 60 + size // 19))),
        "netrefs with one hash": message(
            consts.HANDLE_PING, *((consts.LABEL_REMOTE_REF, ("a", k * prime, 1)) for k in range(1, 400))
        ),
        "a netref as the arguments": bytes([1]) + brine.dump((1, (consts.HANDLE_PING, netref("a", 1)))),
        "nothing but labels": message(consts.HANDLE_PING, *((consts.LABEL_TUPLE, ()) for _ in range(size // 3))),
        "announced items": ping(b"\x15\xff\xff\xff\xff"),
        "announced bytes": ping(b"\x0f\xff\xff\xff\xff"),
    }


def honest_rpyc(size: int) -> bytes:
    """Lines, as a client answers with them."""
    return message(consts.HANDLE_PING, *(by_value("a line of an ordinary text file\n") for _ in range(size // 38)))


GRAMMARS = (
    Grammar("XML-RPC", serve_xml, unlike_xml, honest_xml, adversarial_xml, XML_SIZE),
    Grammar("JSON-RPC over HTTP", serve_json("http"), unlike_json_http, honest_json, adversarial_json, LONGEST),
    Grammar("JSON-RPC on lines", serve_json("lines"), unlike_json, honest_json, adversarial_json, LONGEST),
    Grammar("RPyC", serve_rpyc, unlike_rpyc, honest_rpyc, adversarial_rpyc, RPYC_SIZE),
)
