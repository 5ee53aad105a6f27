"""Connecting to a Unix socket whose queue is full."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

from daemons.clients.net.dial import NetworkError, dial
from daemons.serving.listening import unix_client
from daemons.serving.listening.address import Address


def test_connect_waits_for_a_full_queue_until_the_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "full.sock")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        stack.enter_context(unix_client.connect(path, 1.0))
        with pytest.raises(TimeoutError):
            unix_client.connect(path, 0.02)
        with pytest.raises(NetworkError, match="timed out"):
            dial(Address("unix", path=path), 0.02)

        def make_room(seconds: float) -> None:
            stack.enter_context(listener.accept()[0])
            Event().wait(seconds)

        monkeypatch.setattr("daemons.serving.listening.unix_client.sleep", make_room)
        stack.enter_context(dial(Address("unix", path=path), 20.0))
