"""Random commands of memcached's text protocol, valid and invalid, on a few keys.

Omitted are commands to which memcached 1.6.18 replies differently from one time to another: numbers from 2**63 on,
which it reads beyond their end; a long opaque token, after which an item stays locked.  Flag T of ma is omitted as
well: if the number becomes longer, memcached gives the time to the old item only.  Flag h is not compared: it differs
after some sequences of other commands.
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

NAMES = b"set set add replace append prepend cas get gets gat gats incr decr delete touch mg ms md ma me other".split()

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

#: Stands for the number of the version of an item, or for one more or one less.
PLACEHOLDER = re.compile(rb"<(.)>([+-]?)")


class RandomCommands:
    """The random commands of a seed: the same ones each time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._choice = self._random.choice

    def key(self) -> bytes:
        return self._choice(KEYS[:4] if self._random.random() < 0.8 else KEYS)

    def number(self) -> bytes:
        return self._choice(NUMBERS) if self._random.random() < 0.3 else b"%d" % self._random.randint(0, 20)

    def exptime(self) -> bytes:
        absolute = b"%d" % (time.time() + 1000)
        return self._choice([b"0", b"0", b"0", b"0", b"100", b"-1", b"2592000", b"2592001", absolute, b"abc", b"-100"])

    def noreply(self) -> bytes:
        return b" noreply" if self._random.random() < 0.1 else b""

    def line_end(self) -> bytes:
        return b"\r\n" if self._random.random() < 0.95 else b"\n"

    def cas(self) -> bytes:
        """Return a number of a version, or a placeholder for that of an item or a number near it: see `PLACEHOLDER`."""
        return self._choice([b"0", b"1", b"<%b>", b"<%b>", b"<%b>", b"<%b>+", b"<%b>-"]).replace(b"%b", self.key()[:1])

    def flags(self, letters: str) -> bytes:
        words: list[bytes] = []
        for _ in range(self._choice([0, 1, 1, 2, 3, 4])):
            letter = self._choice(letters if self._random.random() < 0.97 else "xzEB9~")
            argument = b""
            if letter in "NT":
                argument = self._choice([b"0", b"100", b"2592000", b"abc", b"77"])
            elif letter == "R":
                argument = b"50"
            elif letter == "O":
                argument = self._choice([b"", b"123", b"abc" * 10])
            elif letter in "DJ":
                argument = self.number()
            elif letter == "F":
                argument = self._choice([b"0", b"9", b"4294967295", b"-1", b"abc"])
            elif letter == "C":
                argument = self.cas()
            elif letter == "M":
                argument = self._choice([b"S", b"E", b"A", b"P", b"R", b"I", b"D", b"+", b"-", b"", b"x", b"SE"])
            words.append(letter.encode() + argument)
        return b"".join(b" " + word for word in words)

    def storage(self, name: bytes) -> bytes:
        value = self._choice(VALUES)
        last = b" " + self.cas() if name == b"cas" else b""
        client_flags = self._choice([0, 0, 1, 7, 2**32 - 1])
        line = b"%b %b %d %b %d" % (
            name,
            self.key(),
            client_flags,
            self._choice([b"0", b"0", b"100", b"-1"]),
            len(value),
        )
        return line + last + self.noreply() + self.line_end() + value + b"\r\n"

    def meta(self, name: bytes) -> bytes:
        chosen, binary = (self._choice(BASE64), b" b") if self._random.random() < 0.1 else (self.key(), b"")
        if name == b"mg":
            return b"mg %b%b%b\r\n" % (chosen, binary, self.flags("vtlcksfOuqNRTTNR"))
        if name == b"ms":
            value = self._choice(VALUES)
            return b"ms %b %d%b%b\r\n%b\r\n" % (chosen, len(value), binary, self.flags("CFITOqkcMM"), value)
        if name == b"md":
            return b"md %b%b%b\r\n" % (chosen, binary, self.flags("CIqTOk"))
        if name == b"ma":
            return b"ma %b%b%b\r\n" % (chosen, binary, self.flags("CNJDMqtcvOk"))
        return b"me %b%b\r\n" % (chosen, binary)

    def command(self) -> bytes:
        """Return a random command, with its line end and its block of data."""
        name = self._choice(NAMES)
        if name in (b"set", b"add", b"replace", b"append", b"prepend", b"cas"):
            return self.storage(name)
        if name in (b"get", b"gets"):
            keys = b" ".join(self.key() for _ in range(self._choice([1, 2, 3, 4, 5, 40])))
            return b"%b %b%b" % (name, keys, self.line_end())
        if name in (b"gat", b"gats"):
            keys = b" ".join(self.key() for _ in range(self._random.randint(1, 3)))
            return b"%b %b %b%b" % (name, self.exptime(), keys, self.line_end())
        if name in (b"incr", b"decr"):
            return b"%b %b %b%b%b" % (name, self.key(), self.number(), self.noreply(), self.line_end())
        if name == b"delete":
            last = self._choice([b"", b"", b" 0", b" 1", b" noreply", b" 0 noreply", b" 5 noreply", b" x y z"])
            return b"delete %b%b%b" % (self.key(), last, self.line_end())
        if name == b"touch":
            return b"touch %b %b%b%b" % (self.key(), self.exptime(), self.noreply(), self.line_end())
        return self._choice(OTHERS) + b"\r\n" if name == b"other" else self.meta(name)
