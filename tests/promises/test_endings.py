"""Endings are the same under every engine.

Promise R5: for every ending the access word, the reason, the counters and the deadlines agree under all engines, over
TCP, a Unix socket, TLS and UDP."""

from __future__ import annotations

import re
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from daemons.operating.metrics.stats import read
from daemons.serving.engines import ENGINES
from tests.certificates import folder as certificates
from tests.operating.folder import Folder
from tests.operating.live import Live, until
from tests.promises.crowds import settings
from tests.serving.peers import connect, hear, hear_all, is_gone, reset
from tests.serving.tls_client import theirs

each_engine = pytest.mark.parametrize("engine", ENGINES)

LARGE = 32 * 1024 * 1024

SERVICE = f"""
    import daemons

    class Ends(daemons.Service):
        framing = daemons.Lines(limit=64, quoted=True)

        def talk(self):
            trapped = False
            reply = None
            try:
                while True:
                    line = yield reply
                    reply = line
                    if line == b"bye":
                        return b"goodbye"
                    if line == b"fail":
                        raise RuntimeError("a secret of the service")
                    if line == b"large":
                        reply = b"x" * {LARGE}
                    if line == b"trap":
                        trapped = True
            finally:
                if trapped:
                    raise RuntimeError("a secret of the finally clause")

        def apology(self, ending):
            return b"sorry\\n"
"""

#: Actions of a peer on a new connection, until either side has closed it.
Scenario = Callable[[socket.socket], object]

#: Word, messages, bytes received and sent, and reason of an access line.  None: not compared.
Expected = tuple[str, int, int | None, int | None, str]


def ask(peer: socket.socket, *lines: bytes) -> None:
    for line in lines:
        peer.sendall(line + b"\n")
        hear(peer, line + b"\n")


def then(*actions: Scenario) -> Scenario:
    def scenario(peer: socket.socket) -> None:
        for action in actions:
            action(peer)

    return scenario


def saying(data: bytes) -> Scenario:
    return lambda peer: peer.sendall(data)


def asking(*lines: bytes) -> Scenario:
    return lambda peer: ask(peer, *lines)


def hearing(data: bytes) -> Scenario:
    return lambda peer: hear(peer, data)


def leaving(peer: socket.socket) -> None:
    """Shut down the sending half, and expect the daemon to close the connection."""
    peer.shutdown(socket.SHUT_WR)
    with suppress(OSError):  # over TLS this is a truncation
        hear_all(peer)


def waiting(peer: socket.socket) -> None:
    """Expect the daemon to close or reset the connection."""
    with suppress(OSError):
        hear_all(peer)


def resetting(peer: socket.socket) -> None:
    if peer.family == socket.AF_UNIX:
        peer.sendall(b"")
    reset(peer)


def taking_a_little(peer: socket.socket) -> None:
    peer.sendall(b"large\n")
    hear(peer, b"x" * 10_000)


SCENARIOS: dict[str, tuple[Scenario, Expected]] = {
    "done": (then(asking(b"a"), leaving), ("done", 1, 2, 2, "")),
    "done before anything is said": (leaving, ("done", 0, 0, 0, "")),
    "finished": (then(saying(b"bye\n"), hearing(b"goodbye\n"), waiting), ("finished", 1, 4, 8, "")),
    "cut": (then(asking(b"a"), saying(b"b"), leaving), ("cut", 1, 3, 2, "")),
    "malformed": (
        then(saying(b"\\x\n"), hearing(b"sorry\n"), waiting),
        ("malformed", 0, 3, 6, "b'\\\\x': after a backslash, n or another one is expected"),
    ),
    "oversize": (
        then(saying(b"x" * 64), hearing(b"sorry\n"), waiting),
        ("oversize", 0, 64, 6, "no b'\\n' within 64 bytes"),
    ),
    "failed": (then(saying(b"fail\n"), hearing(b"sorry\n"), waiting), ("failed", 1, 5, 6, "")),
    "slow": (then(asking(b"a"), saying(b"b"), waiting), ("slow", 1, 3, 2, "")),
    "idle": (then(asking(b"a"), waiting), ("idle", 1, 2, 2, "")),
    "idle before anything is said": (waiting, ("idle", 0, 0, 0, "")),
    "reset between messages": (then(asking(b"a"), resetting), ("reset", 1, 2, 2, "")),
    "reset within a message": (then(asking(b"a"), saying(b"b"), asking(), resetting), ("reset", 1, None, 2, "")),
    "stuck": (then(saying(b"large\n"), lambda peer: None), ("stuck", 1, 6, None, "")),
    "reset while a reply is sent": (then(taking_a_little, resetting), ("reset", 1, 6, None, "")),
    # A failure of the service takes precedence over actions of the peer: its traceback needs an access line.
    "done, and a failure in finally": (then(asking(b"trap"), leaving), ("failed", 1, 5, 5, "")),
    "cut, and a failure in finally": (then(asking(b"trap"), saying(b"b"), leaving), ("failed", 1, 6, 5, "")),
    "reset, and a failure in finally": (then(asking(b"trap"), resetting), ("failed", 1, 5, 5, "")),
    "idle, and a failure in finally": (then(asking(b"trap"), waiting), ("failed", 1, 5, 5, "")),
    "slow, and a failure in finally": (then(asking(b"trap"), saying(b"b"), waiting), ("failed", 1, 6, 5, "")),
}

#: Over TLS: before the handshake, and without its end.
TLS_SCENARIOS: dict[str, tuple[Scenario, Expected]] = {
    "no handshake": (leaving, ("handshake", 0, 0, 0, "")),
    "a silent peer": (waiting, ("handshake", 0, 0, 0, "")),
    "half a record": (then(saying(b"\x16\x03\x01\x00"), waiting), ("handshake", 0, 4, 0, "")),
    "http in clear": (
        then(saying(b"GET / HTTP/1.0\r\n\r\n"), waiting),
        ("handshake", 0, 18, None, "http-request"),
    ),
    "reset within the handshake": (then(saying(b"\x16\x03\x01\x00"), reset), ("reset", 0, 4, 0, "")),
}

#: Over UDP: a datagram, its access line, and the reply.
DATAGRAMS: dict[str, tuple[bytes, Expected, bytes]] = {
    "done": (b"a\n", ("done", 1, 2, 2, ""), b"a\n"),
    "finished": (b"bye\n", ("finished", 1, 4, 8, ""), b"goodbye\n"),
    "cut": (b"a\nb", ("cut", 1, 3, 0, ""), b""),
    "malformed": (b"\\x\n", ("malformed", 0, 3, 0, SCENARIOS["malformed"][1][4]), b""),
    "oversize": (b"x" * 64, ("oversize", 0, 64, 0, SCENARIOS["oversize"][1][4]), b""),
    "failed": (b"fail\n", ("failed", 1, 5, 0, ""), b""),
    "done, and a failure in finally": (b"trap\n", ("failed", 1, 5, 0, ""), b""),
    "cut, and a failure in finally": (b"trap\nb", ("failed", 1, 6, 0, ""), b""),
}

ACCESS = re.compile(
    r" (?P<word>\w+) messages=(?P<messages>\d+) received=(?P<received>\d+) sent=(?P<sent>\d+) seconds=\S+"
    r"(?: reason=(?P<reason>.+))?$",
    re.MULTILINE,
)


class Suite:
    """A daemon with three listeners, and its access lines in order."""

    def __init__(self, project: Folder, engine: str) -> None:
        project.module("ends", SERVICE)
        project.write(
            "ends",
            f"""
            [daemon]
            service = ends:Ends
            listen = tcp://127.0.0.1:0 tls://127.0.0.1:0 unix:run/ends.sock
            [tls]
            certificate = {certificates()}/server.pem
            key = {certificates()}/server.key
            """,
        )
        limits = {f"{name}_timeout": "1s" for name in ("handshake", "message", "idle", "write")}
        self.folder = project
        self.daemon = Live(project.path, "ends", "--engine", engine, *settings(**limits))
        tcp, tls, unix = self.daemon.addresses
        self._addresses = {
            "tcp": ("127.0.0.1", int(tcp.rpartition(":")[2])),
            "tls": ("127.0.0.1", int(tls.rpartition(":")[2])),
            "unix": unix.removeprefix("unix:"),
        }
        self._seen = 0

    def connect(self, transport: str, *, handshake: bool = True) -> socket.socket:
        peer = connect(self._addresses[transport])
        if transport == "tls" and handshake:
            return theirs().wrap_socket(peer, server_hostname="localhost", suppress_ragged_eofs=False)
        return peer

    def ending(self, transport: str, scenario: Scenario, expected: Expected, *, handshake: bool = True) -> Expected:
        """Return the compared parts of the access line of a conversation."""
        peer = self.connect(transport, handshake=handshake)
        with peer:
            scenario(peer)
            found = until(self._next, f"an access line: {self.daemon.out}")
            assert found is not None
        figures = (int(found["received"]), int(found["sent"]))
        compared = tuple(
            None if wanted is None or (transport == "tls" and handshake) else figure
            for wanted, figure in zip(expected[2:4], figures, strict=True)
        )
        if expected[3] is None:
            assert figures[1] < LARGE
        reason = (found["reason"] or "").strip('"')
        return (found["word"], int(found["messages"]), compared[0], compared[1], reason)

    def _next(self) -> re.Match[str] | None:
        found = list(ACCESS.finditer(self.daemon.out))
        if len(found) <= self._seen:
            return None
        self._seen += 1
        assert len(found) == self._seen, "one conversation is one access line"
        return found[-1]


@pytest.fixture
def suite(folder: Folder, engine: str) -> Iterator[Suite]:
    made = Suite(folder, engine)
    with made.daemon:
        yield made


@each_engine
@pytest.mark.parametrize("transport", ["tcp", "unix", "tls"])
def test_every_ending_has_the_same_access_line_under_each_engine(suite: Suite, transport: str) -> None:
    found: dict[str, Expected] = {}
    wanted: dict[str, Expected] = {}
    for name, (scenario, expected) in SCENARIOS.items():
        if transport == "unix" and "reset" in name:
            continue  # over a Unix socket, a peer that has read everything cannot reset
        word, messages, received, sent, reason = expected
        if transport == "tls":
            received = sent = None
            if name.startswith(("done", "cut")):
                continue  # tested below: these need close_notify, or are truncations
        wanted[name] = (word, messages, received, sent, reason)
        found[name] = suite.ending(transport, scenario, wanted[name] if transport != "tls" else expected)
    assert found == wanted
    counted = Counter(word for word, *_ in found.values())
    path = suite.folder.path / "run" / "ends.metrics"
    until(lambda: {word: n for word, n in read(path).endings.items() if n} == counted, "the counters")
    figures = read(path)
    assert figures.messages == sum(messages for _, messages, *_ in found.values())
    if transport == "tcp":
        assert figures.received >= sum(received or 0 for _, _, received, *_ in found.values())
    tracebacks = sum("fail" in name for name in found)
    assert suite.daemon.out.count("the service failed") == tracebacks


@each_engine
def test_every_ending_of_tls_has_the_same_access_line_under_each_engine(suite: Suite) -> None:
    def goodbye(peer: socket.socket) -> None:
        assert isinstance(peer, ssl.SSLSocket)
        peer.unwrap()

    found = {
        name: suite.ending("tls", scenario, expected, handshake=False)
        for name, (scenario, expected) in TLS_SCENARIOS.items()
    }
    wanted = {name: expected for name, (_, expected) in TLS_SCENARIOS.items()}
    after: dict[str, tuple[Scenario, Expected]] = {
        "done": (then(asking(b"a"), goodbye), ("done", 1, None, None, "")),
        "done, and a failure in finally": (then(asking(b"trap"), goodbye), ("failed", 1, None, None, "")),
        "no goodbye between messages": (then(asking(b"a"), leaving), ("done", 1, None, None, "")),
        "no goodbye within a message": (then(asking(b"a"), saying(b"b"), leaving), ("cut", 1, None, None, "")),
        "goodbye within a message": (then(asking(b"a"), saying(b"b"), goodbye), ("cut", 1, None, None, "")),
    }
    for name, (scenario, expected) in after.items():
        found[name] = suite.ending("tls", scenario, expected)
        wanted[name] = expected
    assert found == wanted


@each_engine
def test_a_stop_ends_conversations_with_the_same_words_under_each_engine(suite: Suite, engine: str) -> None:
    words = {"idle": "drained", "trapped": "failed", "busy": "stopped"}
    if engine == "one":
        del words["trapped"], words["busy"]
    idle = suite.connect("tcp")
    others: list[socket.socket] = []
    with idle:
        ask(idle, b"a")
        if engine != "one":
            others = [suite.connect("tcp"), suite.connect("tcp")]
            ask(others[0], b"trap")
            others[1].sendall(b"b")
        until(lambda: read(suite.folder.path / "run" / "ends.metrics").active == len(words), "all of them")
        suite.daemon.process.send_signal(signal.SIGTERM)
        for peer in (idle, *others):
            is_gone(peer)
            peer.close()
    assert suite.daemon.wait() == 0
    found = sorted(match["word"] for match in ACCESS.finditer(suite.daemon.out))
    expected = sorted(words.values())
    # The half message may reach its deadline before drain_timeout, which is longer.
    assert [word.replace("slow", "stopped") for word in found] == expected


@each_engine
def test_every_ending_of_a_datagram_has_the_same_access_line_under_each_engine(folder: Folder, engine: str) -> None:
    folder.module("ends", SERVICE)
    folder.write("ends", "[daemon]\nservice = ends:Ends\nlisten = udp://127.0.0.1:0\n")
    with Live(folder.path, "ends", "--engine", engine) as daemon, socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.settimeout(20)
        peer.connect(("127.0.0.1", int(daemon.addresses[0].rpartition(":")[2])))
        for number, (name, (datagram, expected, reply)) in enumerate(DATAGRAMS.items(), 1):
            peer.send(datagram)
            if reply:
                assert peer.recv(100) == reply, name
            until(lambda: len(ACCESS.findall(daemon.out)) >= number, "an access line")  # noqa: B023, called at once
            found = list(ACCESS.finditer(daemon.out))[-1]
            figures = (int(found["messages"]), int(found["received"]), int(found["sent"]))
            assert (found["word"], *figures, (found["reason"] or "").strip('"')) == expected, name
        counted = Counter(expected[0] for _, expected, _ in DATAGRAMS.values())
        path = folder.path / "run" / "ends.metrics"
        until(lambda: {word: n for word, n in read(path).endings.items() if n} == counted, "the counters")
        assert daemon.out.count("the service failed") == sum("fail" in name for name in DATAGRAMS)
        peer.setblocking(False)
        with suppress(BlockingIOError):
            raise AssertionError(peer.recv(100))
