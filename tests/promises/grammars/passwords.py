"""Names and passwords: Basic authentication for a protected site, and verification itself, for any protocol.

Hashes are cheap here: the tests measure the work around them, which the throttle does not limit."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from pathlib import Path

from daemons.accounts import Accounts
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.web.site.protection import Realm
from tests.accounts.files import write_users
from tests.promises.grammars.grammar import Feed, Grammar, converse, word
from tests.promises.grammars.http import SIZE as HEAD
from tests.promises.grammars.http import get
from tests.web.example_site import make, service

#: Bytes that a form of webapp may have.
FORM = 64 * 1024

_numbers = itertools.count()


def peer() -> str:
    """Return an address of a different network each time."""
    number = next(_numbers)
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"


def serve_basic(folder: Path) -> Feed:
    write_users(folder / "users", arthur="of the Britons")
    httpd = service(make(folder), protected={"/": Realm("The vault", str(folder / "users"))})
    binding = ServiceBinding(httpd)

    def feed(data: bytes) -> int:
        host = peer()
        return converse(Conversation(httpd, binding, lambda: Peer(f"[{host}]:4242", host, True)), data)

    return feed


def basic(name: str | bytes, password: str | bytes = b"x", scheme: str = "Basic") -> bytes:
    octets = b":".join(each.encode() if isinstance(each, str) else each for each in (name, password))
    return get(f"Authorization: {scheme} {base64.b64encode(octets).decode()}")


#: Characters whose normalization is slow, in different ways.
SLOW = {
    "marks": "\u0301\u0323",
    "marks in order": "\u0323\u0301",
    "letters that decompose into three": "\u1e69",
    "syllables": "\ud55c",
    "jamo": "\u1112\u1161\u11ab",
    "no composition": "\u0958",
    "astral marks": "\U0001d165",
}


def unlike_basic(number: int) -> bytes:
    long, text = word(number, 8_000), word(number, 40)
    marks = "".join(SLOW.values()) * 3
    kinds = [
        basic(text, long),
        basic(long, text),
        basic("arthur", text),
        basic(text, text),
        basic(text[:20] + marks, text[:20] + marks),
        basic(text, text, scheme=text),
        basic(text.encode() + b"\xff", text),
        get(f"Authorization: Basic {text}"),
        get(f"Authorization: {text} {long}"),
    ]
    return kinds[number % len(kinds)]


def adversarial_basic(size: int) -> Mapping[str, bytes]:
    room = (size - 200) // 4 * 3
    made = {
        "colons": basic(":" * (room - 2)),
        "no colon": get(f"Authorization: Basic {base64.b64encode(b'x' * room).decode()}"),
        "not UTF-8": basic(b"\xff" * (room - 2)),
        "not base64": get(f"Authorization: Basic {'A' * (room - 1)}*"),
        "blanks": get(f"Authorization: Basic {' ' * room}QTpi"),
        "fields": get(*["Authorization: Basic QTpi"] * 90),
        "largest name": basic("\u0301" * 128),
        "largest password": basic("arthur", "\u0301" * 128),
    }
    for name, unit in SLOW.items():
        text = unit * ((room - 10) // len(unit.encode()))
        made |= {f"name of {name}": basic(text), f"password of {name}": basic("arthur", text)}
    return made


def honest_basic(size: int) -> bytes:
    """Return requests of a browser that is logged in."""
    good = basic("arthur", "of the Britons")
    return good * (size // len(good))


# --- verification ----------------------------------------------------------------------------------


def serve_verdict(folder: Path) -> Feed:
    """Service that reads lines of a name and a password, separated by a tab."""
    write_users(folder / "users", arthur="of the Britons")
    accounts = Accounts(str(folder / "users"))

    def feed(data: bytes) -> int:
        name, _, password = data.decode("utf-8").partition("\t")
        return len(accounts.check(name, password.partition("\n")[0], peer()).user)

    return feed


def unlike_verdict(number: int) -> bytes:
    text = word(number, 5 + number % 300)
    marks = "".join(SLOW.values())
    return [f"{text}\tx", f"arthur\t{text}", f"{text[:30]}\t{text}", f"{text[:9]}{marks}\t{text[:9]}{marks}"][
        number % 4
    ].encode()


def adversarial_verdict(size: int) -> Mapping[str, bytes]:
    made: dict[str, bytes] = {}
    for name, unit in SLOW.items():
        text = unit * ((size - 10) // len(unit.encode()))
        made |= {f"name of {name}": f"{text}\tx".encode(), f"password of {name}": f"arthur\t{text}".encode()}
    return made


def honest_verdict(size: int) -> bytes:
    return b"arthur\tof the Britons\n".ljust(size, b"x")


GRAMMARS = (
    Grammar("Basic authentication", serve_basic, unlike_basic, honest_basic, adversarial_basic, HEAD),
    Grammar("name and password", serve_verdict, unlike_verdict, honest_verdict, adversarial_verdict, FORM),
)
