"""DatagramServer: one datagram is one conversation, and failures are not answered."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest

from daemons import Service
from daemons.serving.daemon import Daemon
from daemons.serving.datagram import LARGEST, Datagram, DatagramConnection, DatagramServer
from daemons.serving.engines import datagram_server
from daemons.serving.guards.access import Access, parse_networks
from daemons.serving.guards.limits import Limits
from daemons.serving.listening.address import parse_address
from daemons.serving.listening.listen import ListenError, listen, name_of
from daemons.serving.pump import Pump
from tests.serving.peers import DEADLINE
from tests.serving.peers import name_of as log_name_of
from tests.serving.running import Within, access_of
from tests.serving.services import LINE, Echo, Failing, Forward, Polite, RawDatagram, Wide

#: Forks is tried as a process, in test_transports: its children would keep this process's sockets open.
KINDS: list[type[DatagramServer]] = [
    DatagramServer,
    *(datagram_server(engine) for engine in ("one", "threads", "pool", "loop")),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)

Serve = Callable[..., tuple[Within, socket.socket]]


@pytest.fixture
def serve(within: Callable[..., Within]) -> Iterator[Serve]:
    """Serve a service or handler; return the daemon and a connected peer."""
    with ExitStack() as stack:

        def start(
            kind: type[DatagramServer],
            spoken: type[Service] | type[socketserver.BaseRequestHandler],
            limits: Limits | None = None,
        ) -> tuple[Within, socket.socket]:
            handler = Pump.for_service(spoken()) if issubclass(spoken, Service) else spoken
            running = within(kind, handler, limits)
            return running, stack.enter_context(connected(running.address))

        yield start


def connected(address: Any) -> socket.socket:
    peer = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    peer.settimeout(DEADLINE)
    peer.connect(address)
    return peer


def ask(peer: socket.socket, question: bytes) -> bytes:
    peer.send(question)
    return peer.recv(70_000)


# --- a datagram and its answer ------------------------------------------------------------------------


@each_kind
def test_replies_to_all_messages_of_a_datagram_are_one_datagram(kind: type[DatagramServer], serve: Serve) -> None:
    running, peer = serve(kind, Echo)
    for question in (b"a\n", b"a\n", b"one\ntwo\n", b"x" * 62 + b"\n"):
        assert ask(peer, question) == question
    line = running.log_line(f"{log_name_of(peer)} done messages=2 received=8 sent=8 ")
    assert " seconds=0." in line


@each_kind
def test_greeting_replies_and_final_message_are_one_datagram(kind: type[DatagramServer], serve: Serve) -> None:
    running, peer = serve(kind, Polite)
    assert ask(peer, b"a\nb\n") == b"hello\n1\n2\n"
    assert ask(peer, b"a\nbye\nnot heard\n") == b"hello\n1\ngoodbye\n"
    assert ask(peer, b"") == b"hello\n"
    running.log_line("put away after 2")
    assert access_of(running, f"{log_name_of(peer)} finished") == ("finished", "2")


@each_kind
def test_largest_datagram_is_sent_and_a_larger_reply_is_reported(kind: type[DatagramServer], serve: Serve) -> None:
    running, peer = serve(kind, Wide)
    longest = b"x" * (LARGEST - 1) + b"\n"
    assert ask(peer, longest) == longest
    peer.send(b"twice" + b"y" * (LARGEST // 2) + b"\n")
    running.log_line(f"{log_name_of(peer)}: reply of {LARGEST + 1} bytes does not fit in a datagram")
    assert ask(peer, b"z\n") == b"z\n"


@pytest.mark.parametrize(
    ("wrong", "ending"), [(b"fail\n", "failed"), (b"a\nhalf", "cut"), (b"x" * 70, "oversize"), (b"a\nfail\n", "failed")]
)
@each_kind
def test_failures_are_not_answered(kind: type[DatagramServer], wrong: bytes, ending: str, serve: Serve) -> None:
    running, peer = serve(kind, Failing)
    peer.send(wrong)
    assert access_of(running, f"{log_name_of(peer)} {ending}")[0] == ending
    # Nothing has come before this.
    assert ask(peer, b"well\n") == b"well\n"


# --- stock handlers -----------------------------------------------------------------------------------

raw_kinds = pytest.mark.parametrize(
    "kind", [each for each in KINDS if each.raw_handlers], ids=lambda kind: kind.__name__
)


@raw_kinds
def test_socketserver_handler_is_served_and_sends_nothing_if_it_fails(kind: type[DatagramServer], serve: Serve) -> None:
    running, peer = serve(kind, RawDatagram)
    assert ask(peer, b"hello") == b"HELLO"
    for word, why in ((b"fail", "a secret of the handler"), (b"exit", "SystemExit: 3")):
        peer.send(word)
        assert why in running.log_line(f"{log_name_of(peer)}: the conversation failed", why)
        assert ask(peer, b"well") == b"WELL"


@raw_kinds
def test_socketserver_handler_may_send_to_other_addresses(kind: type[DatagramServer], serve: Serve) -> None:
    running, peer = serve(kind, Forward)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.settimeout(DEADLINE)
        other.bind(("127.0.0.1", 0))
        word = b"%d" % other.getsockname()[1]
        assert ask(peer, word) == b"%d octets, " % len(word)
        assert peer.recv(100) == b"from port %d" % running.address[1]
        assert other.recv(100) == word


# --- access and amplification -----------------------------------------------------------------------


class Twice(Service):
    """Says everything twice, as the other one does."""

    framing = LINE

    def respond(self, line: bytes) -> bytes:
        return line * 2


class RawTwice(RawDatagram):
    def handle(self) -> None:
        self.wfile.write(self.packet * 2)


class Kept(DatagramConnection):
    """A connection that keeps its reply instead of sending it."""

    said: ClassVar[list[bytes]] = []

    def send(self, reply: bytes) -> None:
        self.said.append(reply)


class FromElsewhere(DatagramServer):
    """Takes every datagram for one from the documentation's network, RFC 5737."""

    connection_class = Kept

    def get_request(self) -> tuple[Any, Any]:
        request, (_, port) = super().get_request()
        return request, ("192.0.2.7", port)


@pytest.mark.parametrize(("amplification", "answered"), [(0.0, False), (1.0, False), (1.99, False), (2.0, True)])
@pytest.mark.parametrize("handler", [Pump.for_service(Twice()), RawTwice], ids=["service", "handler"])
def test_reply_to_another_host_is_limited_by_amplification(
    amplification: float, answered: bool, handler: type[socketserver.BaseRequestHandler], within: Callable[..., Within]
) -> None:
    Kept.said.clear()
    running = within(FromElsewhere, handler, Limits(amplification=amplification))
    with connected(running.address) as peer:
        peer.send(b"question\n")
        line = running.log_line("192.0.2.7:", " messages=")
    assert (" amplified " not in line) == answered
    assert Kept.said == ([b"question\nquestion\n"] if answered else [])


class Brief(Twice):
    """Says less where it may not say all."""

    def truncated(self, datagram: bytes) -> bytes:
        if datagram.startswith(b"fail"):
            raise RuntimeError("a secret")
        return datagram[:4] if datagram.startswith(b"less") else datagram * 3


@pytest.mark.parametrize(
    ("datagram", "said", "ending"),
    [(b"less\n", [b"less"], "done"), (b"more\n", [], "amplified"), (b"fail\n", [], "failed")],
)
def test_service_may_send_a_truncated_reply_to_another_host(
    datagram: bytes, said: list[bytes], ending: str, within: Callable[..., Within]
) -> None:
    Kept.said.clear()
    running = within(FromElsewhere, Pump.for_service(Brief()), Limits())
    with connected(running.address) as peer:
        peer.send(datagram)
        assert f" {ending} " in running.log_line("192.0.2.7:", " messages=")
    assert Kept.said == said


def test_denied_peer_gets_no_reply(serve: Serve) -> None:
    running, peer = serve(DatagramServer, Echo)
    running.server.access = Access(deny=parse_networks("127.0.0.0/8"))
    peer.send(b"a\n")
    running.log_line(f"{log_name_of(peer)} refused ", "reason=denied")
    running.server.access = Access()
    assert ask(peer, b"b\n") == b"b\n"


def test_no_other_process_can_take_the_port_over() -> None:
    with DatagramServer(("127.0.0.1", 0), RawDatagram) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(server.server_address)
        port = server.server_address[1]
        with pytest.raises(ListenError, match=rf"`ss -lunp sport = :{port}` shows the process"):
            listen(parse_address(f"udp://127.0.0.1:{port}"), 5)


# --- where it listens ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("wildcard", "asked"), [("0.0.0.0", "127.0.0.2"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")])
@pytest.mark.parametrize("spoken", [Echo, RawDatagram])
def test_reply_comes_from_the_address_of_the_request(
    wildcard: str, asked: str, spoken: type, within: Callable[..., Within]
) -> None:
    handler = Pump.for_service(Echo()) if spoken is Echo else spoken
    running = within(DatagramServer, handler, address=(wildcard, 0))
    # A connected socket receives from this address only.
    with connected((asked, running.address[1])) as peer:
        assert ask(peer, b"A\n") == b"A\n"


def test_both_families_have_the_same_port() -> None:
    sockets = listen(parse_address("udp://localhost:0"), 5)
    try:
        names = [str(name_of(each, "udp")) for each in sockets]
        assert len({name.rpartition(":")[2] for name in names}) == 1
        assert {each.type for each in sockets} == {socket.SOCK_DGRAM}
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])
def test_datagrams_received_before_the_stop_are_answered(engine: str) -> None:
    with (
        datagram_server(engine)(("127.0.0.1", 0), Pump.for_service(Echo())) as server,
        connected(server.server_address) as peer,
    ):
        for number in range(50):
            peer.send(b"%d\n" % number)
        daemon = Daemon([server])
        daemon.stop()
        daemon.serve_forever()
        assert sorted(peer.recv(100) for _ in range(50)) == sorted(b"%d\n" % number for number in range(50))


class Flooded(DatagramServer):
    """A server whose queue is never empty."""

    def get_request(self) -> tuple[Any, Any]:
        return Datagram((b"a\n", self.socket)), self.server_address


def test_flood_of_datagrams_does_not_keep_the_daemon_from_ending() -> None:
    with Flooded(("127.0.0.1", 0), Pump.for_service(Echo())) as server:
        server.limits = Limits(drain_timeout=0.1)
        daemon = Daemon([server])
        daemon.stop()
        serving = threading.Thread(target=daemon.serve_forever, daemon=True)
        serving.start()
        serving.join(DEADLINE)
        assert not serving.is_alive()


def test_datagrams_with_equal_data_are_not_equal() -> None:
    one, other = Datagram((b"a", None)), Datagram((b"a", None))
    assert one != other
    assert len({one, other}) == 2
    data, sock = one
    assert (data, sock) == (b"a", None)


@each_kind
@pytest.mark.parametrize("spoken", [Echo, RawDatagram])
def test_reply_that_cannot_be_sent_is_logged_as_a_failure(
    kind: type[DatagramServer], spoken: type[Service] | type[socketserver.BaseRequestHandler], serve: Serve
) -> None:
    class Elsewhere(kind):  # type: ignore[misc, valid-type]
        """Receives each datagram from an address to which none can be sent: class E, RFC 1112, section 4."""

        def get_request(self) -> tuple[Any, Any]:
            request, _ = super().get_request()
            return request, ("240.0.0.1", 9)

    running, peer = serve(Elsewhere, spoken, Limits(max_per_peer=9))
    peer.send(b"a\n")
    running.log_line("240.0.0.1:9: reply of 2 bytes could not be sent: ")
    assert access_of(running, "240.0.0.1:9")[0] == "failed"
    assert not any("Traceback" in line for line in running.lines)
