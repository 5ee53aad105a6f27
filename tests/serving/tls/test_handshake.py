"""TLS handshakes that are accepted or refused, without sockets."""

from __future__ import annotations

import re
import ssl
from contextlib import suppress

import pytest

from daemons import Ending
from tests.certificates import folder
from tests.serving.services import Echo, Polite
from tests.serving.tls_client import Line, ours, theirs

both_versions = pytest.mark.parametrize("version", ["1.2", "1.3"])


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"What is your name?",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff",
        b"\x00" * 4096,
    ],
    ids=["HTTP", "a question", "a broken hello", "zeros"],
)
def test_reason_of_input_that_is_not_tls_is_one_word(said: bytes) -> None:
    line = Line(Polite()).send(said)
    assert (line.over, line.ours.ending, line.ours.failure, line.heard) == (True, Ending.HANDSHAKE, None, b"")
    (reason,) = line.reasons  # in OpenSSL's own words, which change with its versions
    assert re.fullmatch(r"[a-z0-9-]+", reason)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01"])
def test_peer_that_leaves_within_the_handshake(said: bytes) -> None:
    line = Line(Polite()).send(said).end()
    assert (line.over, line.ours.ending, line.ours.messages) == (True, Ending.HANDSHAKE, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
def test_old_protocols_are_refused_with_an_alert(version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    line = Line(Echo()).use(context)
    with pytest.raises(ssl.SSLWantReadError):
        line.client.do_handshake()
    assert line.ours.receive(line.take())[:1] == b"\x15"  # an alert record: RFC 8446, section 5.1
    assert (line.over, line.ours.ending, line.reasons) == (True, Ending.HANDSHAKE, ["unsupported-protocol"])


def test_ciphers_without_authenticated_encryption_are_refused() -> None:
    context = theirs("1.2")
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA")
    line = Line(Echo()).use(context)
    with pytest.raises(ssl.SSLWantReadError):
        line.client.do_handshake()
    line.go()
    assert (line.ours.ending, line.reasons) == (Ending.HANDSHAKE, ["no-shared-cipher"])
    suites = ours().get_ciphers()
    assert suites
    assert all(suite["aead"] for suite in suites)


def test_renegotiation_and_compression_are_off() -> None:
    assert ours().options & ssl.OP_NO_RENEGOTIATION
    assert ours().options & ssl.OP_NO_COMPRESSION
    assert Line(Echo(), "1.2").shake().client.compression() is None


@both_versions
def test_client_certificates(version: str) -> None:
    known = Line(Echo(), context=ours(client_ca=True)).use(theirs(version, "client.pem")).shake().say(b"hi\n")
    assert known.heard == b"hi\n"
    for certificate in ("", "selfsigned.pem"):
        line = Line(Echo(), context=ours(client_ca=True)).use(theirs(version, certificate))
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            line.shake().deliver(b"")
        assert (line.over, line.ours.ending, line.heard) == (True, Ending.HANDSHAKE, b"")
        assert len(line.reasons) == 1


def test_alert_of_a_client_that_rejects_the_certificate_is_the_reason() -> None:
    context = ssl.create_default_context(cafile=str(folder() / "other" / "ca.pem"))
    line = Line(Echo()).use(context)
    with pytest.raises(ssl.SSLCertVerificationError):
        line.shake()
    line.go()
    assert (line.ours.ending, "alert" in line.reasons[0]) == (Ending.HANDSHAKE, True)


@both_versions
def test_session_is_resumed_by_its_ticket_and_never_kept_for_a_client_without(version: str) -> None:
    context, client = ours(), theirs(version)
    sessions: list[ssl.SSLSession | None] = []
    for take in (True, True, False):
        if not take:
            client.options |= ssl.OP_NO_TICKET
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = sessions[-1] if sessions and take else None
        there = client.wrap_bio(incoming, outgoing, server_hostname="localhost", session=session)
        here = context.wrap_bio(outgoing, incoming, server_side=True)
        for step in (there.do_handshake, here.do_handshake) * 2 + (there.read, there.unwrap, here.unwrap):
            with suppress(ssl.SSLError):
                step()
        assert there.session_reused == bool(session)
        sessions.append(there.session)
    assert context.session_stats()["number"] == 0
