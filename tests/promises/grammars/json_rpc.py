"""JSON-RPC, over HTTP and on lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import daemons.rpcmath
from daemons.rpc.json.service import JSONRPC, LONGEST
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service_binding import ServiceBinding
from tests.promises.grammars.grammar import RECORDS, Feed, Grammar, converse, filled, word
from tests.rpc.calling import request

JSON = JSONRPC.of(daemons.rpcmath, "sums")


def serve_json(framing: str) -> Callable[[Path], Feed]:
    def serve(folder: Path) -> Feed:
        service = JSON(JSON.Options(framing=framing))
        binding = ServiceBinding(service)
        if framing == "lines":
            return lambda text: converse(Conversation(service, binding), text + b"\n")
        return lambda text: converse(
            Conversation(service, binding), request(text, path="/") if text[:5] != b"POST " else text
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
        "batch of results that JSON cannot hold": batch(call(b"[1e308,1e308]", "addtogether")),
        "one long integer": call(b"[%b]" % (b"1" * (size - 100))),
        "one long fraction": call(b"[1.%b]" % (b"1" * (size - 100))),
        "long id": call(number=b"9" * 4300),
    }
    return made


def honest_json(size: int) -> bytes:
    one = len(json.dumps(RECORDS))
    return call(json.dumps([RECORDS * (size // one)]).encode())


GRAMMARS = (
    Grammar("JSON-RPC over HTTP", serve_json("http"), unlike_json_http, honest_json, adversarial_json, LONGEST),
    Grammar("JSON-RPC on lines", serve_json("lines"), unlike_json, honest_json, adversarial_json, LONGEST),
)
