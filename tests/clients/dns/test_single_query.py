"""DNS queries with servers that respond late, incorrectly or not at all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from daemons.cli.command import main
from daemons.clients.dns import resolving

NAME = dns.name.from_text("camelot.test")
RECORD = dns.rrset.from_text(NAME, 1, "IN", "MX", "10 mail.camelot.test.")

#: Returns the datagrams that are sent in response to the nth query.
Script = Callable[[int, dns.message.Message], list[bytes]]


def right(question: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(question)
    response.answer.append(RECORD)
    return response


def failed(question: dns.message.Message, code: dns.rcode.Rcode, *, echo: bool = True) -> bytes:
    response = dns.message.make_response(question)
    response.set_rcode(code)
    if not echo:
        response.question.clear()
    return response.to_wire()


@contextmanager
def serving(script: Script, tcp: bytes | None = None) -> Iterator[tuple[int, list[dns.message.Message]]]:
    """Yield the port of a server, and the queries received over UDP.  `tcp` is its response over TCP,
    with the query's id in place of the first two bytes."""
    requests: list[dns.message.Message] = []
    with ExitStack() as stack:
        peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        peer.bind(("127.0.0.1", port))

        def answer() -> None:
            while True:
                data, client = peer.recvfrom(65_535)
                if not data:
                    return
                question = dns.message.from_wire(data)
                requests.append(question)
                for datagram in script(len(requests), question):
                    peer.sendto(datagram, client)

        def answer_over_tcp() -> None:
            while True:
                client, _ = listener.accept()
                with client:
                    head = client.recv(2)
                    if not head:
                        return
                    data = client.recv(int.from_bytes(head, "big"))
                    reply = data[:2] + (tcp or b"")[2:]
                    client.sendall(len(reply).to_bytes(2, "big") + reply)

        threads = [threading.Thread(target=answer), threading.Thread(target=answer_over_tcp)]
        for thread in threads:
            thread.start()
        try:
            yield port, requests
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", port))
            socket.create_connection(("127.0.0.1", port)).close()
            for thread in threads:
                thread.join(20)


def found(port: int) -> list[str]:
    return [str(record.exchange) for record in resolving.Resolver(("127.0.0.1", port), 10.0).find(NAME, "MX").records]


def with_id(message: dns.message.Message, number: int) -> bytes:
    message.id = number
    return message.to_wire()


def other_name(question: dns.message.Message) -> bytes:
    other = dns.message.make_query("other.test", "MX", id=question.id)
    return dns.message.make_response(other).to_wire()


def truncated(question: dns.message.Message, length: int | None = None) -> bytes:
    response = right(question)
    response.flags |= dns.flags.TC
    return response.to_wire()[:length]


#: Datagrams that do not answer the query.
WRONG: dict[str, Callable[[dns.message.Message], bytes]] = {
    "empty": lambda question: b"",
    "one byte": lambda question: b"\0",
    "garbage": lambda question: b"garbage that is no message at all",
    "another id": lambda question: with_id(right(question), question.id ^ 1),
    "another id, cut": lambda question: with_id(right(question), question.id ^ 1)[:-3],
    "the right id alone": lambda question: question.to_wire()[:2] + b"\xff" * 30,
    "another name": other_name,
    "the question": lambda question: question.to_wire(),
    "trailing bytes": lambda question: right(question).to_wire() + b"trailing",
    "cut": lambda question: right(question).to_wire()[:-1],
    "truncated, another id": lambda question: (question.id ^ 1).to_bytes(2, "big") + truncated(question)[2:],
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_datagram_that_does_not_answer_the_query_is_ignored(wrong: Callable[[dns.message.Message], bytes]) -> None:
    with serving(lambda number, question: [wrong(question)] * 3 + [right(question).to_wire()]) as (port, requests):
        assert found(port) == ["mail.camelot.test."]
        assert len(requests) == 1


def test_query_times_out_if_all_datagrams_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda number, question: [b"garbage"] * 100) as (port, _):
        assert main(["mx", "camelot.test", "--server", f"127.0.0.1:{port}", "-t", "0.2"]) == 1
    assert capsys.readouterr() == ("", "daemons mx: camelot.test MX: no answer in 0.2 s\n")


@pytest.mark.parametrize(
    ("code", "echo"),
    [
        (dns.rcode.FORMERR, True),
        (dns.rcode.FORMERR, False),
        (dns.rcode.NOTIMP, True),
        (dns.rcode.NOTIMP, False),
        (dns.rcode.BADVERS, True),
    ],
)
def test_query_is_repeated_without_edns_if_it_is_not_supported(code: dns.rcode.Rcode, echo: bool) -> None:
    def script(number: int, question: dns.message.Message) -> list[bytes]:
        return [right(question).to_wire() if question.edns < 0 else failed(question, code, echo=echo)]

    with serving(script) as (port, requests):
        assert found(port) == ["mail.camelot.test."]
    assert [question.edns for question in requests] == [0, -1]


def test_server_that_rejects_both_forms_is_not_queried_again(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda number, question: [failed(question, dns.rcode.FORMERR)]) as (port, requests):
        assert main(["mx", "camelot.test", "--server", f"127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().err == f"daemons mx: camelot.test MX: 127.0.0.1:{port} answered FORMERR\n"
    assert len(requests) == 2


@pytest.mark.parametrize("times", [1, 2])
def test_temporary_servfail_is_retried(times: int) -> None:
    def script(number: int, question: dns.message.Message) -> list[bytes]:
        return [failed(question, dns.rcode.SERVFAIL) if number <= times else right(question).to_wire()]

    with serving(script) as (port, requests):
        assert found(port) == ["mail.camelot.test."]
    assert len(requests) == times + 1


def test_permanent_servfail_is_reported_after_three_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda number, question: [failed(question, dns.rcode.SERVFAIL)]) as (port, requests):
        assert main(["mx", "camelot.test", "--server", f"127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().err == f"daemons mx: camelot.test MX: 127.0.0.1:{port} answered SERVFAIL\n"
    assert len(requests) == resolving.ROUNDS


def test_next_server_is_queried_after_a_failure() -> None:
    with (
        serving(lambda number, question: [failed(question, dns.rcode.SERVFAIL)]) as (first, failing),
        serving(lambda number, question: [right(question).to_wire()]) as (second, _),
    ):
        resolver = resolving.Resolver(("127.0.0.1", first), 10.0)
        resolver._servers.append((socket.AF_INET, ("127.0.0.1", second)))
        assert len(resolver.find(NAME, "MX").records) == 1
    assert len(failing) == 1


@pytest.mark.parametrize("length", [None, 12, 30, -1])
def test_truncated_response_is_fetched_over_tcp(length: int | None) -> None:
    whole = right(dns.message.make_query(NAME, "MX")).to_wire()
    if length == 12:  # a header without a question section
        length = len(dns.message.make_query(NAME, "MX").to_wire())
    with serving(lambda number, question: [truncated(question, length)], tcp=whole) as (port, requests):
        assert found(port) == ["mail.camelot.test."]
    assert len(requests) == 1


@pytest.mark.parametrize("reply", [b"", b"xxgarbage", b"xx" + b"\xff" * 1000])
def test_malformed_tcp_response_is_one_line_of_error(reply: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda number, question: [truncated(question)], tcp=reply) as (port, _):
        assert main(["mx", "camelot.test", "--server", f"127.0.0.1:{port}", "-t", "5"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"daemons mx: camelot.test MX: 127.0.0.1:{port}")
