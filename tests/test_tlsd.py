"""The secret line is sent over TLS only."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from daemons.clients.ask import send_all
from daemons.clients.net.dial import NetworkError
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import OVER
from daemons.serving.listening.address import Address
from daemons.tlsd import SECRET, Tlsd
from tests.certificates import folder as certificates
from tests.operating.live import until
from tests.serving.tls_live import serve

CA = certificates() / "ca.pem"


def test_secret_line_is_the_only_output() -> None:
    assert SECRET == b"Simple is better than complex."
    conversation = Conversation(Tlsd())
    assert conversation.open() == SECRET
    assert (conversation.state, conversation.ending) == (OVER, Ending.FINISHED)
    assert conversation.receive(b"\xff\n") == b""


def test_secret_line_is_sent_over_tls_only(tmp_path: Path) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is missing: make engines")
    with serve(tmp_path, "service = tlsd") as daemon:
        where = f"127.0.0.1:{daemon.port}"
        for name, heard in (("localhost", SECRET.decode()), ("lancelot.example", "")):
            client = subprocess.run(
                [
                    openssl,
                    "s_client",
                    "-quiet",
                    "-connect",
                    where,
                    "-CAfile",
                    str(CA),
                    "-verify_hostname",
                    name,
                    "-verify_return_error",
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert client.stdout == heard, client.stderr
        assert "hostname mismatch" in client.stderr.lower()
        # In clear, like nc.
        with socket.create_connection(("127.0.0.1", daemon.port), 20.0) as plain:
            plain.sendall(b"tell me\n")
            plain.shutdown(socket.SHUT_WR)
            heard_in_clear = b""
            while data := plain.recv(1000):
                heard_in_clear += data
        assert SECRET not in heard_in_clear
        address = Address("tls", "localhost", daemon.port)
        assert b"".join(send_all(address, [], 20.0, CA)) == SECRET
        with pytest.raises(NetworkError, match=r"the certificate does not verify: no CA in "):
            list(send_all(address, [], 20.0, certificates() / "other" / "ca.pem"))
        until(lambda: " finished messages=0 " in daemon.out, "the access line")
