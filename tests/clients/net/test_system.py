"""Connections of a socket to itself."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from daemons.clients.net.system import refuse_itself

#: Attempts to connect to a closed port while the kernel has two ports to choose the source port from.
ATTEMPTS = """
import pathlib, subprocess, sys
from daemons.cli.command import main
from daemons.clients.net.dial import NetworkError, dial
from daemons.serving.listening.address import Address
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40001")
for _ in range(20):
    assert main(["ping", "127.0.0.1", "40000"]) == 1
    assert main(["fetch", "-t", "5", "http://127.0.0.1:40000/"]) == 1
    try:
        dial(Address("tcp", "127.0.0.1", 40000), 5.0)
    except NetworkError as error:
        assert "connection refused" in str(error)
    else:
        raise AssertionError("connected to itself")
"""


@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
def test_socket_connected_to_itself_is_refused(family: str) -> None:
    kind = socket.AF_INET6 if ":" in family else socket.AF_INET
    with socket.socket(kind) as own:
        own.bind((family, 0))
        own.connect(own.getsockname())
        with pytest.raises(ConnectionRefusedError):
            refuse_itself(own)
    with (
        socket.create_server((family, 0), family=kind) as listener,
        socket.create_connection(listener.getsockname()[:2]) as peer,
    ):
        refuse_itself(peer)
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()  # resets the connection
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
        refuse_itself(peer)


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_closed_port_that_becomes_the_source_port_is_refused() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", ATTEMPTS],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    if done.stderr.startswith("unshare: "):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) == {
        "Network failure: 127.0.0.1 port 40000: connection refused",
        "daemons fetch: http://127.0.0.1:40000/: connection refused",
    }
