"""RPyC: messages to a guarded connection."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rpyc.core import brine, consts

from daemons.linecount import LineCounter
from daemons.rpc.rpyc.brine_limits import VALUES
from daemons.rpc.rpyc.frames import Refused
from daemons.rpc.rpyc.netrefs import GuardedConnection
from tests.promises.grammars.grammar import Feed, Grammar, word

#: Bytes of a message: `NetrefHandler.limit`.
SIZE = 64 * 1024


class Swallowed:
    """A channel for one message without a socket; the peer never responds."""

    over = None
    closed = False

    def send(self, data: bytes) -> None:
        pass

    def poll(self, timeout: Any = None) -> bool:
        raise EOFError

    def close(self) -> None:
        self.closed = True


def serve_rpyc(folder: Path) -> Feed:
    def feed(message: bytes) -> None:
        channel: Any = Swallowed()
        conn = GuardedConnection(LineCounter(), channel, "a peer")
        conn._box(conn._local_root)  # as after a request for the root
        with suppress(Refused, EOFError):
            conn._dispatch(message)
        conn.close()

    return feed


def message(handler: Any, *boxed: Any, kind: int = consts.MSG_REQUEST, seq: Any = 1) -> bytes:
    data: bytes = bytes([kind]) + brine.dump((seq, (handler, (consts.LABEL_TUPLE, boxed))))
    return data


def by_value(value: Any) -> tuple[int, Any]:
    return consts.LABEL_VALUE, value


def netref(name: str, number: int) -> tuple[int, Any]:
    return consts.LABEL_REMOTE_REF, (name, number, number)


def unlike_rpyc(number: int) -> bytes:
    long, text, large = word(number, 32_768), word(number, 12), number << 64
    kinds: list[bytes] = [
        message(consts.HANDLE_PING, by_value(long)),
        message(consts.HANDLE_PING, netref(f"builtins.{text}", number)),
        message(consts.HANDLE_PING, netref(long, number)),
        message(consts.HANDLE_PING, *(netref(f"{text}.{n}", number) for n in range(90))),
        message(consts.HANDLE_PING, by_value((number, large, number / 7, text, text.encode()))),
        message(consts.HANDLE_GETATTR, by_value("a"), by_value(long)),
        message(consts.HANDLE_CALLATTR, netref(text, 1), by_value(text), (consts.LABEL_TUPLE, ())),
        message(consts.HANDLE_CALLATTR, by_value(1), by_value(text), by_value(()), by_value(((long, 1),))),
        message(consts.HANDLE_INSPECT, by_value((long, number, number))),
        message(large),
        message(number),
        message(consts.HANDLE_PING, seq=large),
        bytes([consts.MSG_EXCEPTION]) + brine.dump((number, (("builtins", text), (long,), ((text, 1),), long))),
        bytes([consts.MSG_EXCEPTION]) + brine.dump((number, ((text, text), (), (), ""))),
        bytes([consts.MSG_REPLY]) + brine.dump((number, netref(f"{text}.{text}", number))),
        bytes([number % 256]) + long.encode(),
    ]
    return kinds[number % len(kinds)]


def adversarial_rpyc(size: int) -> Mapping[str, bytes]:
    size -= 100
    prime = 2**61 - 1
    colliding = tuple(complex(-1000003.0 * k, k) for k in range(1, size // 17))

    def ping(encoded: bytes) -> bytes:
        """Return an encoded value that replaces a missing one."""
        before, _, behind = message(consts.HANDLE_PING, by_value("|")).partition(brine.dump("|"))
        return bytes(before + encoded + behind)

    return {
        "small integers": ping(brine.dump((1,) * (size - 10))),
        "as many values as are accepted": ping(brine.dump((1,) * (VALUES - 20))),
        "empty tuples": ping(brine.dump(((),) * (size - 10))),
        "deep tuples": ping(b"\x10" * size),
        "long integers": ping(b"\x14\x0e" + (b"\x17\0\0\x10\xcc" + b"9" * 4300) * 14),
        "integers with one hash": ping(b"\x1a" + brine.dump(tuple(k * prime for k in range(1, size // 24)))),
        "complex numbers with one hash": ping(b"\x1a" + brine.dump(colliding)),
        "slices": ping(b"\x15" + b"\0\0\x10\0" + b"\x19\x12\0\0\0" * 4096),
        "netrefs": message(consts.HANDLE_PING, *(netref("a", n) for n in range(60, 60 + size // 19))),
        "netrefs with one hash": message(
            consts.HANDLE_PING, *((consts.LABEL_REMOTE_REF, ("a", k * prime, 1)) for k in range(1, 400))
        ),
        "a netref as the arguments": bytes([1]) + brine.dump((1, (consts.HANDLE_PING, netref("a", 1)))),
        "nothing but labels": message(consts.HANDLE_PING, *((consts.LABEL_TUPLE, ()) for _ in range(size // 3))),
        "announced items": ping(b"\x15\xff\xff\xff\xff"),
        "announced bytes": ping(b"\x0f\xff\xff\xff\xff"),
    }


def honest_rpyc(size: int) -> bytes:
    """Return lines as a client sends them."""
    return message(consts.HANDLE_PING, *(by_value("a line of an ordinary text file\n") for _ in range(size // 38)))


GRAMMARS = (Grammar("RPyC", serve_rpyc, unlike_rpyc, honest_rpyc, adversarial_rpyc, SIZE),)
