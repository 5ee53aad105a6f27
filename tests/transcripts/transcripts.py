r"""Transcripts: recorded conversations, which are replayed at the seam and over real sockets.

``launcelot.txt`` has those of the service in ``daemons.launcelot``, each under a title:

    [two questions]
    > What is your name?            bytes sent by the peer, as in a bytes literal: \n, \x00
    < My name is Sir Launcelot.     bytes that it must receive
    >4095 a                         the text, repeated
    = done                          the ending; before it, the peer shuts down its side

The order of lines is the order of bytes in each direction; the peer need not wait for a reply before it sends the next
line.
"""

from __future__ import annotations

import importlib
import inspect
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.service import Service
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.conversation.states import OVER, PENDING

_ENDINGS = {ending.value: ending for ending in Ending}

_LINE = re.compile(r"([<>])(\d*) (.*)|= (\w+)|\[(.+)\]")


@dataclass(frozen=True)
class Transcript:
    """Expected or observed course of one conversation."""

    daemon: str
    title: str
    sent: bytes = b""
    heard: bytes = b""
    ending: Ending | None = None

    def __str__(self) -> str:
        return f"{self.daemon}: {self.title}"

    def after(self, times: int, before: Transcript) -> Transcript:
        """Return a transcript of `before`, repeated, followed by this one, all pipelined."""
        return replace(self, sent=before.sent * times + self.sent, heard=before.heard * times + self.heard)


def read_all() -> list[Transcript]:
    """Return the transcripts of all daemons."""
    return [transcript for path in sorted(Path(__file__).parent.glob("*.txt")) for transcript in read(path)]


def read(path: Path) -> list[Transcript]:
    """Return the transcripts in a file.  Raises `ValueError` for an invalid line."""
    found: list[Transcript] = []
    for number, line in enumerate(path.read_text("ascii").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or (not found and not match[5]) or (match[4] and match[4] not in _ENDINGS):
            raise ValueError(f"{path.name}:{number}: not a line of a transcript: {line}")
        arrow, times, text, word, title = match.groups()
        if title:
            found.append(Transcript(path.stem, title))
            continue
        so_far = found[-1]
        if so_far.ending is not None:
            raise ValueError(f"{path.name}:{number}: after the ending: {line}")
        octets = text.encode().decode("unicode_escape").encode("latin-1") * int(times or 1) if arrow else b""
        found[-1] = replace(
            so_far,
            sent=so_far.sent + (octets if arrow == ">" else b""),
            heard=so_far.heard + (octets if arrow == "<" else b""),
            ending=_ENDINGS[word] if word else None,
        )
    return found


def service_of(daemon: str) -> Service:
    """Return an instance of the service in ``daemons.NAME``."""
    module = importlib.import_module(f"daemons.{daemon}")
    kinds = [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Service) and kind.__module__ == module.__name__
    ]
    (kind,) = [kind for kind in kinds if kind not in [other.datagrams for other in kinds]]
    return kind(kind.Options() if kind.Options else None)


def replay(
    service: Service, chunks: Iterable[bytes], binding: ServiceBinding | None = None
) -> tuple[bytes, Ending | None]:
    """Return the replies of `service` to an input in these pieces, and the ending."""
    conversation = Conversation(service, binding)
    heard = [conversation.open()]
    for chunk in (*filter(None, chunks), b""):
        heard.append(conversation.receive(chunk))
        while conversation.state == PENDING:
            heard.append(conversation.proceed())
    assert conversation.state == OVER
    conversation.close()
    assert conversation.failure is None
    return b"".join(heard), conversation.ending


def octet_by_octet(data: bytes) -> list[bytes]:
    """Split `data` into single bytes."""
    return [data[at : at + 1] for at in range(len(data))]


def cut_at_random(data: bytes) -> list[bytes]:
    """Split `data` at random positions, which depend on the seed that pytest-randomly prints."""
    cuts = sorted(random.choices(range(len(data) + 1), k=random.randint(1, 12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
