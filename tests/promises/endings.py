"""Scenarios for every ending of a conversation, and a daemon that takes part in them."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from tests.certificates import folder as certificates
from tests.operating.folder import Folder
from tests.operating.live import Live, until
from tests.promises.crowds import settings
from tests.serving.peers import connect, hear, hear_all, name_of, reset
from tests.serving.tls_client import theirs

LARGE = 32 * 1024 * 1024

SERVICE = f"""
    import daemons

    class Ends(daemons.Service):
        framing = daemons.Lines(limit=64, quoted=True)

        def talk(self, peer):
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

#: Scenarios in which the peer waits for a limit of the daemon.
WAITING = frozenset(
    (
        "slow",
        "idle",
        "idle before anything is said",
        "idle, and a failure in finally",
        "slow, and a failure in finally",
        "a silent peer",
        "half a record",
    )
)

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
    r" (?P<peer>\S+) (?P<word>\w+) messages=(?P<messages>\d+) received=(?P<received>\d+) sent=(?P<sent>\d+) seconds=\S+"
    r"(?: reason=(?P<reason>.+))?$",
    re.MULTILINE,
)


class Suite:
    """A daemon with three listeners, and the endings of conversations with it."""

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
        # Under `one`, a peer that waits for its limit would keep the others from being accepted.
        self._at_once = engine != "one"
        limits = {f"{name}_timeout": "1s" for name in ("handshake", "message", "idle", "write")}
        self.folder = project
        self.daemon = Live(project.path, "ends", "--engine", engine, *settings(**limits))
        tcp, tls, unix = self.daemon.addresses
        self._addresses = {
            "tcp": ("127.0.0.1", int(tcp.rpartition(":")[2])),
            "tls": ("127.0.0.1", int(tls.rpartition(":")[2])),
            "unix": unix.removeprefix("unix:"),
        }

    def connect(self, transport: str, *, handshake: bool = True) -> socket.socket:
        peer = connect(self._addresses[transport])
        if transport == "tls" and handshake:
            return theirs().wrap_socket(peer, server_hostname="localhost", suppress_ragged_eofs=False)
        return peer

    def endings(
        self, transport: str, scenarios: dict[str, tuple[Scenario, Expected]], *, handshake: bool = True
    ) -> dict[str, Expected]:
        """Return the compared parts of the access line of each scenario."""
        before = len(self._lines())
        names: dict[str, str] = {}
        with ExitStack() as stack:

            def converse(name: str) -> None:
                peer = stack.enter_context(self.connect(transport, handshake=handshake))
                # Peers at a Unix socket have no names.
                names[name] = name_of(peer) if transport != "unix" else ""
                scenarios[name][0](peer)
                if name != "stuck":  # the daemon waits for a moment until its peer closes
                    peer.close()

            together = [name for name in scenarios if name in WAITING and self._at_once]
            for name in scenarios:
                if name not in together:
                    converse(name)
            with ThreadPoolExecutor(len(WAITING)) as threads:
                list(threads.map(converse, together))
            until(lambda: len(self._lines()) >= before + len(scenarios), f"access lines: {self.daemon.out}")
        lines = self._lines()[before:]
        assert len(lines) == len(scenarios), "one conversation is one access line"
        found: dict[str, Expected] = {}
        for name, (_, expected) in scenarios.items():
            own = [line for line in lines if line["peer"] == names[name] or not names[name]]
            line = next((each for each in own if _compared(each, expected) == expected), own[0])
            lines.remove(line)
            found[name] = _compared(line, expected)
        return found

    def _lines(self) -> list[re.Match[str]]:
        return list(ACCESS.finditer(self.daemon.out))


def _compared(line: re.Match[str], expected: Expected) -> Expected:
    """Return the parts of an access line, with None where `expected` has None."""
    received, sent = int(line["received"]), int(line["sent"])
    assert expected[3] is not None or sent < LARGE
    return (
        line["word"],
        int(line["messages"]),
        None if expected[2] is None else received,
        None if expected[3] is None else sent,
        (line["reason"] or "").strip('"'),
    )
