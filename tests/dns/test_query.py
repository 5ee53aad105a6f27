"""DNS queries: accepted ones, refused ones, and the fields copied to the response."""

from __future__ import annotations

import struct
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.dns import PAYLOAD, Dns, DnsOverUdp
from daemons.dns.zones import ZONES
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from tests.dns.test_zones import BEGINNING, SOA, TCP, UDP, asked, lines

QUERY = dns.message.make_query("camelot.test", "A", id=0x1234).to_wire()
FORMERR, NOTIMP, REFUSED, BADVERS = dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.REFUSED, dns.rcode.BADVERS


EDNS = dns.message.make_query("camelot.test", "A", id=0x1234, use_edns=0).to_wire()


def with_records(answers: int = 0, authorities: int = 0, additional: int = 0, first: int = 0) -> bytes:
    """Return a query with records of different unknown classes and types."""
    count = answers + authorities + additional
    records = b"".join(b"\0" + struct.pack("!HHIH", 60_000 - first - n, 300 + first + n, 0, 0) for n in range(count))
    return QUERY[:6] + struct.pack("!3H", answers, authorities, additional) + QUERY[12:] + records


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (QUERY[:-1], FORMERR),
        (QUERY + b"\0", FORMERR),
        (QUERY[:4] + b"\0\0" + QUERY[6:12], FORMERR),
        (QUERY[:4] + b"\0\2" + QUERY[6:] + QUERY[12:], FORMERR),
        (QUERY[:12] + b"\xc0\x0c" + QUERY[-4:], FORMERR),  # a name that points at itself
        (QUERY[:12] + b"\xc0\x02" + QUERY[-4:], FORMERR),  # a name that points at the header
        (QUERY[:12] + b"\x40" + b"a" * 64 + QUERY[12:], FORMERR),  # a label of 64 bytes
        (QUERY[:12] + (b"\x3f" + b"a" * 63) * 4 + QUERY[-5:], FORMERR),  # a name of 257 bytes
        (with_records(answers=1), FORMERR),
        (with_records(authorities=1), FORMERR),
        (with_records(additional=1), FORMERR),
        (with_records(additional=2), FORMERR),
        (with_records(additional=109), FORMERR),
        (EDNS[:-1], FORMERR),
        (EDNS[:-2] + b"\0\3\0\x0c\0", FORMERR),  # an option that ends too early
        (EDNS[:-2] + b"\0\5\0\x0c\0\2a", FORMERR),  # an option that is longer than its record
        (EDNS[:-11] + b"\1a" + EDNS[-10:], FORMERR),  # OPT has no name but the root's
        (EDNS + b"\0", FORMERR),
        (QUERY[:2] + b"\x28" + QUERY[3:], NOTIMP),  # an update
        (dns.message.make_query("camelot.test", "AXFR", id=0x1234).to_wire(), REFUSED),
        (dns.message.make_query("camelot.test", "TXT", "CH", id=0x1234).to_wire(), REFUSED),
        (dns.message.make_query("camelot.test", "TKEY", id=0x1234).to_wire(), NOTIMP),
        (dns.message.make_query("camelot.test", "A", id=0x1234, use_edns=1).to_wire(), BADVERS),
    ],
)
def test_unsupported_query_gets_its_error_code(query: bytes, code: dns.rcode.Rcode) -> None:
    reply = dns.message.from_wire(UDP.respond(query))
    assert (reply.id, reply.rcode(), reply.answer) == (0x1234, code, [])


def test_records_in_a_query_are_never_read_by_a_library() -> None:
    known = len(dns.rdata._rdata_classes)
    for first in range(0, 50_000, 1000):
        UDP.respond(with_records(additional=109, first=first))
        UDP.truncated(with_records(additional=109, first=first))
    assert len(dns.rdata._rdata_classes) == known


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(("name", "kind"), [("camelot.test", "A"), ("absent.camelot.test", "A"), ("test", "A")])
def test_do_bit_is_copied(name: str, kind: str, do: bool) -> None:
    for service in (UDP, TCP):
        reply = asked(name, kind, service, want_dnssec=do, use_edns=0)
        assert (reply.edns, bool(reply.ednsflags & dns.flags.DO)) == (0, do)


def test_edns_options_are_ignored() -> None:
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"a cookie")
    query = dns.message.make_query("camelot.test", "A", use_edns=0, options=[option, option])
    reply = dns.message.from_wire(UDP.respond(query.to_wire()))
    assert (reply.rcode(), reply.options, lines(reply.answer)) == (0, (), {"@ A 127.0.0.1"})


def test_ds_of_a_delegation_is_answered_from_the_zone_above_it(tmp_path: Path) -> None:
    reply = asked("forest.camelot.test", "DS")
    assert (reply.rcode(), reply.flags & dns.flags.AA, reply.answer) == (0, dns.flags.AA, [])
    assert {rrset.to_text() for rrset in reply.authority} == {SOA}
    below = asked("deep.forest.camelot.test", "DS")
    assert (below.flags & dns.flags.AA, lines(below.authority)) == (0, {"forest NS ns.forest"})
    # With both zones served here, DS comes from the upper one and everything else from the lower one.
    upper, lower = tmp_path / "upper.zone", tmp_path / "lower.zone"
    upper.write_text(BEGINNING + "ns A 127.0.0.1\nsub NS ns\nsub DS 1 8 2 " + "00" * 32 + "\n")
    lower.write_text(BEGINNING.replace("x.test", "sub.x.test") + "ns A 127.0.0.2\n")
    both = DnsOverUdp(Dns.Options(zone=ZONES.parse(f"{upper} {lower}")))
    assert asked("sub.x.test", "DS", both).answer[0].rdtype == dns.rdatatype.DS
    assert asked("sub.x.test", "SOA", both).answer[0].name == dns.name.from_text("sub.x.test.")
    alone = DnsOverUdp(Dns.Options(zone=ZONES.parse(str(lower))))
    reply = asked("sub.x.test", "DS", alone)
    assert (reply.answer, reply.authority[0].name) == ([], dns.name.from_text("sub.x.test."))


def test_additional_records_are_left_out_beside_an_answer_and_never_in_a_referral(tmp_path: Path) -> None:
    path = tmp_path / "x.zone"
    servers = [f"server-with-a-rather-long-name-{number}" for number in range(9)]
    lines_ = [f"@ MX {number} {server}" for number, server in enumerate(servers)]
    lines_ += [f"sub NS {server}.sub" for server in servers]
    lines_ += [f"{server}{below} AAAA ::1" for server in servers for below in ("", ".sub")]
    path.write_text(BEGINNING + "\n".join(lines_) + "\n")
    zones = Dns.Options(zone=ZONES.parse(str(path)))
    answered = asked("x.test", "MX", DnsOverUdp(zones))
    assert (answered.flags & dns.flags.TC, len(answered.answer[0]), answered.additional) == (0, 9, [])
    referred = asked("sub.x.test", "A", DnsOverUdp(zones))
    assert (referred.flags & dns.flags.TC, referred.authority, referred.additional) == (dns.flags.TC, [], [])
    whole = asked("sub.x.test", "A", Dns(zones))
    assert (whole.flags & dns.flags.TC, len(whole.authority[0]), len(whole.additional)) == (0, 9, 9)


def test_question_is_repeated_byte_by_byte_and_long_names_are_answered() -> None:
    for labels in (["cAmElOt", "TeSt"], ["a"] * 115 + ["LAKE", "camelot", "test"], ["b" * 63] * 3 + ["com"]):
        query = dns.message.make_query(".".join(labels), "A").to_wire()
        for service in (UDP, TCP):
            assert service.respond(query)[12 : len(query)] == query[12:]
            assert dns.message.from_wire(service.respond(query)).question[0].name == dns.name.from_text(
                ".".join(labels)
            )


def test_wildcard_answers_a_name_of_many_labels(tmp_path: Path) -> None:
    path = tmp_path / "x.zone"
    path.write_text(BEGINNING + "*.wild A 127.0.0.1\n*.wild A 127.0.0.2\n", "utf-8-sig")
    service = DnsOverUdp(Dns.Options(zone=ZONES.parse(str(path))))
    reply = asked("a." * 120 + "wild.x.test", "A", service)
    assert sorted(str(each) for each in reply.answer[0]) == ["127.0.0.1", "127.0.0.2"]


@pytest.mark.parametrize("octets", [b"", QUERY[:11], QUERY[:2] + b"\x81" + QUERY[3:]])
def test_message_that_is_not_a_query_is_not_answered(octets: bytes) -> None:
    assert UDP.respond(octets) == b""
    conversation = Conversation(TCP)
    assert conversation.open() == b""
    framed = TCP.framing.encode(octets)
    assert (conversation.receive(framed + TCP.framing.encode(QUERY)), conversation.ending) == (b"", Ending.FINISHED)


def test_over_tcp_one_query_may_follow_the_other_however_they_are_cut() -> None:
    conversation = Conversation(TCP)
    heard = conversation.open()
    for octet in TCP.framing.encode(QUERY) * 2:
        heard += conversation.receive(bytes([octet]))
    assert heard == TCP.framing.encode(TCP.respond(QUERY)) * 2
    conversation.close()


@given(st.binary(max_size=64), st.integers(0, len(QUERY)), st.integers(0, 8), st.booleans())
def test_any_bytes_get_a_response_or_none(noise: bytes, at: int, cut: int, whole: bool) -> None:
    query = noise if whole else QUERY[:at] + noise + QUERY[at + cut :]
    for service, longest in ((UDP, PAYLOAD), (TCP, 65_535)):
        reply = service.respond(query)
        assert not reply or (len(reply) <= longest and reply[:2] == query[:2] and reply[2] & 0x80)


@pytest.mark.parametrize("options", [{}, {"use_edns": 0, "payload": 1232}], ids=["plain", "EDNS"])
def test_truncated_response_is_no_longer_than_the_query(options: dict[str, int]) -> None:
    query = dns.message.make_query("camelot.test", "MX", **options)  # type: ignore[arg-type]
    wire = UDP.truncated(query.to_wire())
    reply = dns.message.from_wire(wire, ignore_trailing=True)
    assert len(wire) <= len(query.to_wire())
    assert query.is_response(reply)
    assert reply.flags & dns.flags.TC
    assert not reply.answer
