"""Responses of the daemon dns without sockets; with sockets: ``tests/clients/dns/test_resolving.py``."""

from __future__ import annotations

import os
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest

from daemons.dns import PAYLOAD, Dns, DnsOverUdp
from daemons.dns.zones import ZONES, read_zone

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = Dns.Options(zone=ZONES.parse(f"{CONF}/camelot.zone {CONF}/127.zone"))
TCP, UDP = Dns(OPTIONS), DnsOverUdp(OPTIONS)

ORIGIN = dns.name.from_text("camelot.test.")
SOA = "camelot.test. 300 IN SOA ns.camelot.test. hostmaster.camelot.test. 2026112101 3600 900 1209600 300"


def asked(name: str, kind: str, service: Dns = UDP, **options: int) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    reply = dns.message.from_wire(service.respond(query.to_wire()))
    assert query.is_response(reply)
    assert not reply.flags & dns.flags.RA
    return reply


def lines(section: list[dns.rrset.RRset]) -> set[str]:
    """Return records as in a zone file, without TTL and class."""
    return {
        line.replace(" 3600 IN", "")
        for rrset in section
        for line in rrset.to_text(origin=ORIGIN, relativize=True).splitlines()
    }


def under(name: str) -> str:
    return f"{name}.camelot.test" if name else "camelot.test"


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("camelot.test", "A", {"@ A 127.0.0.1"}),
        ("CAMELOT.test", "AAAA", {"@ AAAA ::1"}),
        ("camelot.test", "NS", {"@ NS ns", "@ NS ns.lake"}),
        ("camelot.test", "MX", {"@ MX 10 mail", "@ MX 20 backup", "@ MX 20 spare", "@ MX 30 post"}),
        ("camelot.test", "ANY", {"@ A 127.0.0.1"}),  # one type, RFC 8482
        ("www.camelot.test", "A", {"www CNAME @", "@ A 127.0.0.1"}),
        ("www.camelot.test", "CNAME", {"www CNAME @"}),
        ("www.camelot.test", "ANY", {"www CNAME @"}),
        ("ni.camelot.test", "A", {"ni CNAME peng", "peng CNAME neee-wom", "neee-wom CNAME ni"}),
        ("robin.knight.camelot.test", "A", {"robin.knight A 127.0.0.31"}),
        ("not.so.brave.knight.camelot.test", "A", {"not.so.brave.knight A 127.0.0.31"}),
    ],
)
def test_existing_records_are_returned(name: str, kind: str, answer: set[str]) -> None:
    reply = asked(name, kind)
    assert (reply.rcode(), reply.flags & dns.flags.AA, reply.authority) == (0, dns.flags.AA, [])
    assert lines(reply.answer) == answer


@pytest.mark.parametrize(
    ("name", "kind", "code", "aliases"),
    [
        ("absent", "A", dns.rcode.NXDOMAIN, 0),
        ("below.mail", "A", dns.rcode.NXDOMAIN, 0),
        ("dangling", "A", dns.rcode.NXDOMAIN, 1),  # RFC 6604
        ("mail", "MX", dns.rcode.NOERROR, 0),
        ("post", "MX", dns.rcode.NOERROR, 1),
        ("robin.knight", "MX", dns.rcode.NOERROR, 0),
        ("knight", "A", dns.rcode.NOERROR, 0),  # above names that exist: RFC 8020
        ("lake", "A", dns.rcode.NOERROR, 0),
        ("knight", "ANY", dns.rcode.NOERROR, 0),
    ],
)
def test_negative_response_has_the_soa_record_with_its_ttl(
    name: str, kind: str, code: dns.rcode.Rcode, aliases: int
) -> None:
    reply = asked(under(name), kind)
    assert (reply.rcode(), len(reply.answer)) == (code, aliases)
    assert reply.flags & dns.flags.AA
    assert {rrset.to_text() for rrset in reply.authority} == {SOA}


@pytest.mark.parametrize("name", ["example.test", "test", "org", "."])
def test_names_of_others_are_refused(name: str) -> None:
    reply = asked(name, "A")
    assert (reply.rcode(), reply.sections[1:]) == (dns.rcode.REFUSED, [[], [], []])


def test_for_the_zone_of_another_its_server_is_named() -> None:
    for name in ("forest", "deep.in.the.forest"):
        reply = asked(under(name), "A")
        assert (reply.rcode(), reply.flags & dns.flags.AA, reply.answer) == (0, 0, [])
        assert lines(reply.authority) == {"forest NS ns.forest"}
        assert lines(reply.additional) == {"ns.forest A 127.0.0.55"}


def test_addresses_lead_back_to_names() -> None:
    reply = asked("25.0.0.127.in-addr.arpa", "PTR")
    assert lines(reply.answer) == {"25.0.0.127.in-addr.arpa. PTR mail"}


def test_records_of_servers_include_their_addresses() -> None:
    assert "backup A 127.0.0.26" in lines(asked("camelot.test", "MX").additional)


@pytest.mark.parametrize(("payload", "longest"), [(None, 512), (100, 512), (4096, PAYLOAD)])
def test_large_response_is_truncated_over_udp_and_complete_over_tcp(payload: int | None, longest: int) -> None:
    options = {} if payload is None else {"use_edns": 0, "payload": payload}
    short, whole = (asked(under("grail"), "TXT", service, **options) for service in (UDP, TCP))
    assert (short.flags & dns.flags.TC, short.answer) == (dns.flags.TC, [])
    assert (whole.flags & dns.flags.TC, len(whole.answer)) == (0, 1)
    assert len(whole.to_wire()) > longest
    assert whole.edns == (-1 if payload is None else 0)


def test_client_prints_the_response() -> None:
    for question in Dns.questions:
        assert dns.message.from_wire(UDP.respond(Dns.question(question))).answer
    question = Dns.question(b"merlin.camelot.test TXT")
    answer = UDP.respond(question)
    assert b'merlin.camelot.test. 3600 IN TXT "\\027[31mred\\007"' in Dns.shown(answer)
    assert Dns.matches(question, answer)
    assert not Dns.matches(question, Dns.question(b"merlin.camelot.test TXT"))
    assert not Dns.matches(question, question)
    assert Dns.shown(b"?").startswith(b"no DNS message: ")
    assert dns.message.from_wire(Dns.question("bücher.test".encode())).question[0].name.labels[0] == b"xn--bcher-kva"


def test_zone_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.zone"
    path.write_text(BEGINNING, "utf-8-sig")
    assert read_zone(str(path)).origin == dns.name.from_text("x.test.")


@pytest.mark.parametrize("word", [b"camelot.test NOSUCHTYPE", b"..", b"\xff", b"x" * 64])
def test_invalid_question_is_refused(word: bytes) -> None:
    with pytest.raises(ValueError, match="is not a question; write NAME or 'NAME TYPE'"):
        Dns.question(word)


BEGINNING = "$ORIGIN x.test.\n$TTL 1h\n@ SOA ns hostmaster (\n 1 2 3\n 4 5 )\n@ NS ns\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BEGINNING + "ns A bogus\n", " line 7: 'ns A bogus': not a record; expected NAME [TTL] [IN] TYPE DATA"),
        (
            BEGINNING + "\na CNAME b ; c\na A 127.0.0.1 ; d\n",
            " line 9: 'a A 127.0.0.1': rdataset type is not compatible",
        ),
        (BEGINNING + "a.y.test. A 127.0.0.1\n", " line 7: 'a.y.test. A 127.0.0.1': the name is not in the zone"),
        (BEGINNING.replace("2 3", "b 3"), " line 4: '1 b 3': "),
        (BEGINNING + "a A (\n127.0.0.1\n", " line 7: 'a A (': unbalanced parentheses"),
        (
            BEGINNING + "$INCLUDE /etc/passwd\n",
            " line 7: '$INCLUDE /etc/passwd': zone file directive '$INCLUDE' is not",
        ),
        (BEGINNING + "a DNAME b\n", ": a.x.test.: DNAME is not supported"),
        (BEGINNING.replace("@ NS ns", ""), ": expected an SOA record and an NS record for x.test."),
        ("@ SOA ns hostmaster 1 2 3 4 5\n", " line 1: '@ SOA ns hostmaster 1 2 3 4 5': Unknown origin"),
        ("", ": expected an SOA record and an NS record after a line $ORIGIN NAME."),
        ("\udcff", ": not UTF-8 at byte 0"),
    ],
)
def test_invalid_zone_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "x.zone"
    path.write_bytes(os.fsencode(text))
    with pytest.raises(ValueError, match="zone") as raised:
        read_zone(str(path))
    assert str(raised.value).startswith(f"{path}{complaint}")
