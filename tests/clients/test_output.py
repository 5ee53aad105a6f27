"""Output of replies: escaped at a terminal, unchanged in a pipe."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.foreign import Foreign, until_delimiter, until_end
from tests.operating.folder import Folder
from tests.operating.live import BIN, environment

#: Clear screen, set title, C1 CSI, bidirectional override, variation selector; and letters that are not escaped.
HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eevil\u200bword\x00\x7f\rä中"
ESCAPED = r"\x1b[2J\x1b]0;title\x07\x9b31m\u202eevil\u200bword\x00\x7f\rä中"


def at_terminal(folder: Path, *words: str) -> str:
    """Run a command with a terminal as standard output; return its output."""
    controller, terminal = pty.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, controller)
        try:
            process = subprocess.Popen(
                [str(BIN / "daemons"), *words],
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(terminal)
        written = b""
        with process:
            try:
                while piece := os.read(controller, 4096):
                    written += piece
            except OSError:  # EIO: the other end is closed
                pass
            assert process.wait(20) == 0
    return written.decode().replace("\r\n", "\n")


def piped(folder: Path, *words: str) -> bytes:
    done = subprocess.run(
        [str(BIN / "daemons"), *words],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("service", ["lines", "dance:Dance"])
def test_ask_escapes_at_a_terminal_and_writes_raw_bytes_to_a_pipe(service: str, folder: Folder) -> None:
    """With a service, which has framed replies, and with a raw handler, which has not."""
    folder.module("dance", "from socketserver import StreamRequestHandler\nclass Dance(StreamRequestHandler): pass\n")
    key = "handler" if ":" in service else "service"
    folder.write("x", f"[daemon]\n{key} = {service}\nport = 1060\n")
    expected = HOSTILE.encode() + b"\xff\n"

    def visit(client: socket.socket) -> None:
        (until_delimiter if service == "lines" else lambda peer, _: until_end(peer))(client, b"\n")
        client.sendall(expected)

    with Foreign(visit) as foreign:
        words = ("ask", "x", "127.0.0.1", "-p", foreign.port, "-t", "10", "hello")
        assert at_terminal(folder.path, *words) == ESCAPED + "\\xff\n"
        assert piped(folder.path, *words) == expected


def test_fetch_escapes_at_a_terminal_and_writes_raw_bytes_to_a_pipe(tmp_path: Path) -> None:
    body = HOSTILE.encode() + b"\xff\n"

    def visit(client: socket.socket) -> None:
        until_delimiter(client, b"\r\n\r\n")
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))

    with Foreign(visit) as foreign:
        url = f"http://127.0.0.1:{foreign.port}/"
        assert at_terminal(tmp_path, "fetch", url) == ESCAPED + "\\xff\n"
        assert piped(tmp_path, "fetch", url) == body


def test_whois_escapes_at_a_terminal_and_in_a_pipe(tmp_path: Path) -> None:
    def visit(client: socket.socket) -> None:
        until_delimiter(client, b"\r\n")
        client.sendall(HOSTILE.encode() + b"\r\n")

    with Foreign(visit) as foreign:
        out = piped(tmp_path, "whois", "x", "--server", f"127.0.0.1:{foreign.port}").decode()
    assert out.replace("\n", "") == ESCAPED.replace("\\r", "")
