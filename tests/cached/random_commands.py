"""Random commands of memcached's text protocol, valid and invalid, on a few keys.

Omitted are commands to which memcached 1.6.18 replies differently from one time to another: numbers from 2**63 on,
which it reads beyond their end; flag h, which a background thread may change; a long opaque token, after which an item
stays locked.
"""

from __future__ import annotations

import random
import re
import time

KEYS = [b"a", b"b", b"c", b"n", b"key:with/odd%chars", b"x" * 250]

#: Keys in base64, also of bytes that a key of the other commands cannot have, and invalid ones.
BASE64 = [b"YQ==", b"Ymlu", b"AAEC", b"bm90", b"???", b"YQ"]

NUMBERS = [b"0", b"1", b"5", b"100", b"4294967295", b"4294967296", b"-1", b"abc", b"1a", b"+3", b"007"]
NUMBERS += [b"2147483647", b"2147483648", b"9999999999999", b"18446744073709551615", b"18446744073709551616"]

VALUES = [b"", b"hello", b"12 foo", b" 12", b"x" * 30, b"1\r\n2", b"get a\r\n", b"\0\xff", b"1\t", b"5\n", b"y" * 5000]
VALUES += [b"0", b"1", b"5", b"9", b"10", b"99", b"100", b"4294967296", b"99999999999999999999999"]

#: Commands that are invalid, or have no key.
OTHERS = [
    *(b"", b"foo", b"get", b" get a", b"gat", b"gat 5", b"incr a", b"incr a 1 2 3", b"delete", b"touch a", b"GET a"),
    *(b"mg", b"md", b"ma", b"me", b"ms a", b"ms", b"mx a", b"set", b"set a", b"set a 0 0", b"g a", b"quiT", b"a"),
    *(b"verbosity 1", b"verbosity", b"verbosity x", b"verbosity 1 noreply", b"stats reset", b"stats foo", b"me a x"),
    *(b"get a  b", b"gets  a", b"  set a 0 0 1\r\n7", b"set a 0 0 2\r\nabcd", b"ms a 2\r\nabcd", b"mg a v v"),
    *(b"flush_all", b"flush_all 0", b"flush_all noreply", b"flush_all abc", b"flush_all -1", b"flush_all 1 2 3"),
    *(b"%b %b" % (name, b"k" * 251) for name in (b"get", b"get a", b"mg", b"delete", b"gat 0")),
    *(b"%b %b 1" % (name, b"k" * 251) for name in (b"incr", b"touch", b"get", b"ma", b"md")),
    b"gets " + b" ".join(KEYS * 20),
]


def key() -> bytes:
    return random.choice(KEYS[:4] if random.random() < 0.8 else KEYS)


def number() -> bytes:
    return random.choice(NUMBERS) if random.random() < 0.3 else b"%d" % random.randint(0, 20)


def exptime() -> bytes:
    absolute = b"%d" % (time.time() + 1000)
    return random.choice([b"0", b"0", b"0", b"0", b"100", b"-1", b"2592000", b"2592001", absolute, b"abc", b"-100"])


def noreply() -> bytes:
    return b" noreply" if random.random() < 0.1 else b""


def line_end() -> bytes:
    return b"\r\n" if random.random() < 0.95 else b"\n"


def cas() -> bytes:
    """Return a number of a version, or a placeholder for that of an item, or a number near it: see `PLACEHOLDER`."""
    return random.choice([b"0", b"1", b"<%b>", b"<%b>", b"<%b>", b"<%b>+", b"<%b>-"]).replace(b"%b", key()[:1])


PLACEHOLDER = re.compile(rb"<(.)>([+-]?)")


def flags(letters: str) -> bytes:
    words: list[bytes] = []
    for _ in range(random.choice([0, 1, 1, 2, 3, 4])):
        letter = random.choice(letters if random.random() < 0.97 else "xzEB9~")
        argument = b""
        if letter in "NT":
            argument = random.choice([b"0", b"100", b"2592000", b"abc", b"77"])
        elif letter == "R":
            argument = b"50"
        elif letter == "O":
            argument = random.choice([b"", b"123", b"abc" * 10])
        elif letter in "DJ":
            argument = number()
        elif letter == "F":
            argument = random.choice([b"0", b"9", b"4294967295", b"-1", b"abc"])
        elif letter == "C":
            argument = cas()
        elif letter == "M":
            argument = random.choice([b"S", b"E", b"A", b"P", b"R", b"I", b"D", b"+", b"-", b"", b"x", b"SE"])
        words.append(letter.encode() + argument)
    return b"".join(b" " + word for word in words)


def storage(name: bytes) -> bytes:
    value = random.choice(VALUES)
    last = b" " + cas() if name == b"cas" else b""
    client_flags = random.choice([0, 0, 1, 7, 2**32 - 1])
    line = b"%b %b %d %b %d" % (name, key(), client_flags, random.choice([b"0", b"0", b"100", b"-1"]), len(value))
    return line + last + noreply() + line_end() + value + b"\r\n"


def meta(name: bytes) -> bytes:
    chosen, binary = (random.choice(BASE64), b" b") if random.random() < 0.1 else (key(), b"")
    if name == b"mg":
        return b"mg %b%b%b\r\n" % (chosen, binary, flags("vtlcksfOuqNRTTNR"))
    if name == b"ms":
        value = random.choice(VALUES)
        return b"ms %b %d%b%b\r\n%b\r\n" % (chosen, len(value), binary, flags("CFITOqkcMM"), value)
    if name == b"md":
        return b"md %b%b%b\r\n" % (chosen, binary, flags("CIqTOk"))
    if name == b"ma":
        return b"ma %b%b%b\r\n" % (chosen, binary, flags("CNJDTMqtcvOk"))
    return b"me %b%b\r\n" % (chosen, binary)


def command() -> bytes:
    """Return a random command, with its line end and its block of data."""
    name = random.choice(
        b"set set add replace append prepend cas get gets gat gats incr decr delete touch mg ms md ma me other".split()
    )
    if name in (b"set", b"add", b"replace", b"append", b"prepend", b"cas"):
        return storage(name)
    if name in (b"get", b"gets"):
        keys = b" ".join(key() for _ in range(random.choice([1, 2, 3, 4, 5, 40])))
        return b"%b %b%b" % (name, keys, line_end())
    if name in (b"gat", b"gats"):
        keys = b" ".join(key() for _ in range(random.randint(1, 3)))
        return b"%b %b %b%b" % (name, exptime(), keys, line_end())
    if name in (b"incr", b"decr"):
        return b"%b %b %b%b%b" % (name, key(), number(), noreply(), line_end())
    if name == b"delete":
        last = random.choice([b"", b"", b" 0", b" 1", b" noreply", b" 0 noreply", b" 5 noreply", b" x y z"])
        return b"delete %b%b%b" % (key(), last, line_end())
    if name == b"touch":
        return b"touch %b %b%b%b" % (key(), exptime(), noreply(), line_end())
    return random.choice(OTHERS) + b"\r\n" if name == b"other" else meta(name)
