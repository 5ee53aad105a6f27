"""Responses of servers: HTTP responses, as read by `[proxy]` and ``daemons call``, with XML-RPC in the body."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from daemons.framings.http import ResponseDecoder
from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.response import ResponseBuilder
from tests.promises.grammars.grammar import PIECE, Feed, Grammar, filled, word

#: Bytes of a head: `ResponseLimits`.
SIZE = 64 * 1024

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def serve(_: Path) -> Feed:
    def feed(data: bytes) -> int:
        """Read a response and unfold its fields; return the body."""
        decoder = ResponseDecoder("GET", unfold=True)
        for start in range(0, len(data), PIECE):
            decoder.decode(data[start : start + PIECE])
        decoder.finish()
        return decoder.received

    return feed


#: Fields that are looked at, and others.
FIELDS = (
    *("Connection", "Content-Encoding", "Content-Length", "Content-Type", "Set-Cookie", "Trailer", "Transfer-Encoding"),
    *("Cache-Control", "Date", "ETag", "Keep-Alive", "Location", "Server", "Upgrade", "Vary", "Via", "Warning"),
)


def unlike(number: int) -> bytes:
    text, long = word(number, 40).encode(), word(number, 14_000).encode()
    field = FIELDS[number % len(FIELDS)].encode()
    kinds = [
        OK + b"%b: %b\r\n\r\n" % (field, text),
        OK + b"%b: %b, %b\r\n\r\n" % (field, text, long),
        OK + b"%b: %b\r\nContent-Length: 0\r\n\r\n" % (text, long),
        OK + b"%b: a\r\n %b\r\n\r\n" % (text, long),
        b"HTTP/1.%d %d %b\r\nContent-Length: %d\r\n\r\n" % (number % 10, 100 + number % 500, text, number),
        b"HTTP/1.1 103 %b\r\nLink: %b\r\n\r\n" % (text, long) + OK + b"\r\n" + text,
        CHUNKED + b"2;%b=%b\r\nab\r\n0\r\n%b: %b\r\n\r\n" % (text, long, text, text),
        text + long,
    ]
    return kinds[number % len(kinds)]


def honest(size: int) -> bytes:
    """Return a page with typical fields."""
    head = OK + (
        b"Date: Sun, 12 Oct 2025 08:00:00 GMT\r\nServer: nginx/1.28.0\r\nContent-Type: text/html; charset=utf-8\r\n"
        b"Set-Cookie: session=eyJhbGciOiJIUzI1NiJ9; Path=/; HttpOnly; SameSite=Lax\r\nCache-Control: no-cache\r\n"
        b"Transfer-Encoding: chunked\r\nVary: Accept-Encoding\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    )
    return filled(head, b"40\r\n%b\r\n" % (b"<p>" + b"x" * 61), b"0\r\n\r\n", size)


def adversarial(size: int) -> Mapping[str, bytes]:
    return {
        "fields": filled(OK, b"a:\r\n", b"\r\n", size, most=1000),
        "too many fields": filled(OK, b"a:\r\n", b"\r\n", size),
        "fields that are looked at": filled(OK, b"Connection: a\r\n", b"\r\n", size, most=1000),
        "blanks before a value": filled(OK + b"a:", b" ", b"\r\n\r\n", size),
        "blanks behind a value": filled(OK + b"a: b", b" ", b"c\r\n\r\n", size),
        "tabs around a length": filled(OK + b"Content-Length:", b"\t ", b"1\r\n\r\n", size),
        "folded lines": filled(OK + b"a: b\r\n", b" \r\n", b"\r\n", size),
        "name without a colon": filled(OK, b"a", b"\r\n\r\n", size),
        "no end": filled(OK, b"a: b\r\n", b"", size),
        "line ends": filled(b"", b"\r\n", b"", size),
        "reason": filled(b"HTTP/1.1 200 ", b"a ", b"\r\n\r\n", size),
        "last byte is refused": filled(OK, b"a: b\r\n", b"\0\r\n\r\n", size),
        "1xx": filled(b"", b"HTTP/1.1 100 \r\n\r\n", OK + b"\r\n", size),
        "options of the connection": filled(OK + b"Connection: ", b"a,", b"\r\n\r\n", size),
        "chunks": filled(CHUNKED, b"1\r\na\r\n", b"0\r\n\r\n", size),
        "chunk extensions": filled(CHUNKED, b"1;a=b;c\r\na\r\n", b"0\r\n\r\n", size),
        "chunk extension in quotes": filled(CHUNKED + b'1;a="', b"\\a", b"", size),
        "trailers": filled(CHUNKED + b"0\r\n", b"a: b\r\n", b"\r\n", size),
        "trailer without an end": filled(CHUNKED + b"0\r\na: ", b"b", b"", size),
    }


def serve_xml(_: Path) -> Feed:
    def feed(data: bytes) -> None:
        with suppress(UnreadableError, xmlrpc.client.Fault):
            ResponseBuilder().read(data)

    return feed


def of_xml(value: bytes) -> bytes:
    return b"<methodResponse><params><param><value>%b</value></param></params></methodResponse>" % value


def unlike_xml(number: int) -> bytes:
    text = word(number, 2000).encode()
    kinds = [
        of_xml(b"<string>%b</string>" % text),
        of_xml(b"<struct><member><name>%b</name><value>%b</value></member></struct>" % (text, text)),
        of_xml(b"<%b/>" % text),
        of_xml(b"<string %b='a'>b</string>" % text),
        b"<?xml version='1.0' encoding='%b'?>" % text[:40] + of_xml(b""),
        b"<!DOCTYPE %b>" % text + of_xml(b""),
        of_xml(b"&%b;" % text),
        xmlrpc.client.dumps(xmlrpc.client.Fault(number, text.decode())).encode(),
        of_xml(b"<int>%b</int>" % text),
    ]
    return kinds[number % len(kinds)]


def honest_xml(size: int) -> bytes:
    """Return a list of records."""
    record = xmlrpc.client.dumps(({"name": "Launcelot", "quest": "the Grail", "age": 33, "brave": True},))
    value = record.partition("<param>")[2].partition("</param>")[0].strip().encode()
    before, _, behind = of_xml(b"<array><data>|</data></array>").partition(b"|")
    return filled(before, value, behind, size)


def adversarial_xml(size: int) -> Mapping[str, bytes]:
    before, _, behind = of_xml(b"|").partition(b"|")
    return {
        "open arrays": filled(before, b"<array><data><value>", b"", size),
        "open elements": filled(b"", b"<a>", b"", size),
        "attributes": filled(before + b"<string", b" a=''", b"/>" + behind, size),
        "empty values": filled(before + b"<array><data>", b"<value/>", b"</data></array>" + behind, size),
        "digits": filled(before + b"<int>", b"1", b"</int>" + behind, size),
        "digits of a double": filled(before + b"<double>1.", b"1", b"</double>" + behind, size),
        "blanks": filled(before + b"<int>", b" ", b"x</int>" + behind, size),
        "blanks between elements": filled(before, b"\n", b"<int>1</int>" + behind, size),
        "base64": filled(before + b"<base64>", b"YQ==\n", b"*</base64>" + behind, size),
        "references": filled(before + b"<string>", b"&amp;", b"</string>" + behind, size),
        "comments": filled(b"", b"<!---->", of_xml(b""), size),
        "entities": filled(b"<!DOCTYPE a [", b'<!ENTITY b "c">', b"]>" + of_xml(b"&b;"), size),
    }


GRAMMARS = (
    Grammar("HTTP responses", serve, unlike, honest, adversarial, SIZE),
    Grammar("XML-RPC responses", serve_xml, unlike_xml, honest_xml, adversarial_xml, SIZE),
)
