"""Lengths of datagrams, without sockets and with netcat."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

import pytest

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.settings.values import FRACTION
from daemons.udpd import Udpd
from tests.operating.folder import Folder
from tests.operating.live import Live, until

ID = b"id=0123456789abcDEF\n"


def answer(datagram: bytes, drop_rate: float = 0.0) -> bytes:
    """Return the reply to one datagram."""
    conversation = Conversation(Udpd(Udpd.Options(drop_rate=drop_rate)))
    said = conversation.open() + conversation.receive_all(datagram)
    assert (conversation.ending, conversation.messages, conversation.failure) == (Ending.DONE, 1, None)
    return said


@pytest.mark.parametrize(
    ("datagram", "line", "length"),
    [
        (b"hello", b"", 5),
        (b"", b"", 0),
        (b"\xff\x00", b"", 2),
        (bytes(65_507), b"", 65_507),
        (ID + b"hello", ID, 5),
        (ID, ID, 0),
        (ID + ID, ID, len(ID)),
        # Not an id but part of the data.
        (ID[:-1], b"", 19),
        (b"id=0123456789abcde\nhello", b"", 24),
        (b"id=0123456789abcdef0\nhello", b"", 26),
        (b"id=0123456789abcdeg\nhello", b"", 25),
        (b"\n" + ID, b"", 21),
    ],
)
def test_the_data_alone_is_counted_and_the_id_comes_back(datagram: bytes, line: bytes, length: int) -> None:
    assert answer(datagram) == line + b"Your data was %d bytes long" % length


def test_dropped_datagram_is_logged_and_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "daemons.udpd"):
        assert answer(ID + b"hello", drop_rate=1.0) == b""
        assert answer(b"hello", drop_rate=0.0)
    assert caplog.messages == ["Pretending to drop packet: 25 bytes"]
    half = [bool(answer(b"x", drop_rate=0.5)) for _ in range(400)]
    assert 100 < sum(half) < 300


def test_two_daemons_do_not_answer_each_other() -> None:
    for question in (b"hello", ID + b"hello"):
        assert answer(answer(question)) == b""


@pytest.mark.parametrize("text", ["0", "0.5", "1", "0.000001"])
def test_drop_rate_round_trips_as_text(text: str) -> None:
    assert FRACTION.show(FRACTION.parse(text)) == text


@pytest.mark.parametrize("text", ["", "1.5", "-0.5", ".5", "50%", "nan", "1e-3"])
def test_invalid_drop_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a fraction; write a number from 0 to 1, such as 0\.5"):
        FRACTION.parse(text)


def test_netcat_is_answered(tmp_path: Path) -> None:
    if not (netcat := shutil.which("nc")):
        pytest.skip("nc is missing: make engines")
    folder = Folder(tmp_path)
    folder.write("udpd", "[daemon]\nservice = udpd\nlisten = udp://127.0.0.1:0\n")
    with Live(tmp_path, "udpd") as daemon:
        # -W 1: exit after the first reply.
        asked = subprocess.run(
            [netcat, "-u", "-W", "1", "-w", "20", "127.0.0.1", str(daemon.port)],
            input=b"hello",
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (asked.stdout, asked.stderr) == (b"Your data was 5 bytes long", b"")
        until(lambda: " done messages=1 received=5 sent=26 " in daemon.out, "the access line")
