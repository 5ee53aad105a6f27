"""A talk is given the subject of the client certificate."""

from __future__ import annotations

import pytest

from daemons import Lines, Peer, Service, Talk
from tests.certificates import KNIGHT
from tests.serving.conversation.test_start_tls import Mail, Upgraded
from tests.serving.tls_client import VERSIONS, Line, ours, theirs

both_versions = pytest.mark.parametrize("version", VERSIONS)


class Named(Service):
    """Send the subject as the greeting, or with the first reply."""

    framing = Lines(limit=100)

    def talk(self, peer: Peer) -> Talk:
        while True:
            yield str(peer.certificate).encode()


class Late(Named):
    greets = False


@both_versions
@pytest.mark.parametrize("service", [Named, Late])
def test_talk_is_given_the_subject_of_the_client_certificate(version: str, service: type[Service]) -> None:
    for certificate, subject in (("client.pem", "CN=client"), ("knight.pem", KNIGHT.rfc4514_string())):
        line = Line(service(), version, context=ours(client_ca=True)).use(theirs(version, certificate)).shake()
        line.say(b"who\n")
        assert line.heard == f"{subject}\n{subject}\n".encode()


def test_without_a_client_certificate_there_is_no_subject() -> None:
    assert Line(Named()).shake().heard == b"None\n"
    # Not verified, so not reported.
    assert Line(Named()).use(theirs(certificate="client.pem")).shake().heard == b"None\n"


@both_versions
def test_talk_that_begins_tls_is_given_the_subject(version: str) -> None:
    service = Mail()
    line = Upgraded(service, version)
    line.tls.context = ours(client_ca=True)
    line.use(theirs(version, "client.pem"))
    line.say_in_clear(b"STARTTLS\n").shake()
    assert [peer.certificate for peer in service.peers] == ["CN=client"]
