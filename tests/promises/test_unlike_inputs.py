"""Memory is flat under unlike inputs.

For every grammar, thousands of inputs that differ in everything a library might cache (encodings, record types and
classes, names of fields, methods, options) leave the memory of a process within 4 MiB."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.operating.folder import Folder
from tests.operating.live import Live, until
from tests.promises.crowds import MIB, address_of
from tests.promises.grammars.grammar import COUNT, Grammar
from tests.promises.grammars.table import GRAMMARS
from tests.rpc.calling import request
from tests.serving.peers import connect, hear_all

PROJECT = Path(__file__).parents[2]


#: Commands that feed the inputs; each imports the services once, for several grammars.
COMMANDS = 12


@pytest.mark.parametrize("some", [list(GRAMMARS)[start::COMMANDS] for start in range(COMMANDS)], ids=", ".join)
def test_memory_is_flat_under_unlike_inputs(some: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.promises.unlike_inputs", *some],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    grown = {name: int(figure) for figure, _, name in (line.partition(" ") for line in done.stdout.splitlines())}
    assert list(grown) == some
    assert not {
        name: f"{figure / MIB:.1f} MiB more"
        for name, figure in grown.items()
        if figure >= 4 * MIB * GRAMMARS[name].count // COUNT
    }


#: Daemons by grammar, with the encoding of an input over TCP.
LIVE = {
    "XML-RPC": "rpc = daemons.rpcmath",
    "JSON-RPC over HTTP": "jsonrpc = daemons.rpcmath",
    "DNS over TCP": "service = dns",
}


def sent(grammar: Grammar, number: int) -> bytes:
    data = grammar.unlike(number)
    if grammar.name == "DNS over TCP":
        return struct.pack("!H", len(data)) + data
    return data if data[:5] == b"POST " else request(data, path="/")


def resident(pid: int) -> int:
    """Return the resident bytes of a process, without pages of files."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return 1024 * int(lines["RssAnon"].split()[0])


@pytest.mark.parametrize("name", LIVE)
def test_memory_of_a_daemon_is_flat_under_unlike_peers(name: str, folder: Folder) -> None:
    zones = f"[dns]\nzone = {PROJECT}/conf/camelot.zone\n" if name == "DNS over TCP" else ""
    folder.write("unlike", f"[daemon]\n{LIVE[name]}\nport = 0\nengine = loop\n{zones}")
    with Live(folder.path, "unlike") as daemon:

        def ask(first: int, count: int) -> None:
            for number in range(first, first + count):
                with connect(address_of(daemon)) as peer, suppress(ConnectionError):
                    peer.sendall(sent(GRAMMARS[name], number))
                    peer.shutdown(socket.SHUT_WR)
                    hear_all(peer)

        ask(0, 100)
        before = resident(daemon.process.pid)
        ask(100, 2000)
        until(lambda: resident(daemon.process.pid) - before < 4 * MIB, "memory as before, within 4 MiB")
        assert "Traceback" not in daemon.out + daemon.err
