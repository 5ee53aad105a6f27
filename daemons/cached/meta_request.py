"""A meta command's line: its key and its flags."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable

from daemons.cached.store import BINARY_KEY, Item
from daemons.cached.words import BAD_FORMAT, is_key, signed32, unsigned32, unsigned64

#: Bytes of the longest opaque token, with its letter O.
LONGEST_OPAQUE = 32

BAD_TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
BAD_OPAQUE = b"CLIENT_ERROR opaque token too long\r\n"


#: Before a key of the store that no line can contain.  A line end, so that no other command reaches such a key.
HIDDEN = b"\n"


def decoded(text: bytes) -> bytes:
    """Return the key of the store for a key in base64.  Raises `ValueError`."""
    key = b64decode(text, validate=True)
    if not key:
        raise ValueError("an empty key")
    return key if is_key(key) and b" " not in key else HIDDEN + key


def encoded(key: bytes) -> bytes:
    """Return a key of the store in base64."""
    return b64encode(plain(key))


def plain(key: bytes) -> bytes:
    """Return a key of the store as its bytes were before base64."""
    return key.removeprefix(HIDDEN)


class InvalidCommand(Exception):
    """A command line is invalid; `reply` says why."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


#: Flags with a number, what reads it, and the reply to another argument.
NUMBERS: dict[int, tuple[Callable[[bytes], int | None], bytes]] = {
    **dict.fromkeys(b"NTR", (signed32, BAD_TOKEN)),
    ord("C"): (unsigned64, BAD_TOKEN),
    ord("F"): (unsigned32, BAD_FORMAT),
    ord("J"): (unsigned64, b"CLIENT_ERROR invalid numeric initial value\r\n"),
    ord("D"): (unsigned64, b"CLIENT_ERROR invalid numeric delta value\r\n"),
}

#: All other flags.
PLAIN = b"bIkhlqstuvcfMOPL"


class Request:
    """A meta command: its key and its flags."""

    __slots__ = ("created", "flags", "key", "words")

    def __init__(self, words: list[bytes], start: int) -> None:
        """Parse `words`, with flags from `start` on.  Raises `InvalidCommand`."""
        self.key = words[1]
        self.words = words[start:]
        #: Whether the item did not exist, and has been created by flag N.
        self.created = False
        #: Arguments of the flags by letter; those with numbers in `NUMBERS` as int.
        self.flags: dict[int, bytes | int] = {}
        error = b""
        for word in self.words:
            letter, argument = word[0], word[1:]
            if letter in self.flags:
                raise InvalidCommand(b"CLIENT_ERROR duplicate flag\r\n")
            if letter in NUMBERS:
                read, reply = NUMBERS[letter]
                number = read(argument)
                if number is None:
                    error = (error or reply) if letter == ord("F") else reply
                self.flags[letter] = number or 0
            elif letter in PLAIN:
                self.flags[letter] = argument
                if letter == ord("M") and len(argument) != 1:
                    error = b"CLIENT_ERROR incorrect length for M token\r\n"
                elif letter == ord("b"):
                    error = self._decode_key() or error
            else:
                raise InvalidCommand(b"CLIENT_ERROR invalid flag\r\n")
        if error:
            raise InvalidCommand(error)
        if ord("b") not in self.flags and not is_key(self.key):
            raise InvalidCommand(BAD_FORMAT)

    def _decode_key(self) -> bytes:
        try:
            self.key = decoded(self.key)
        except ValueError:
            return b"CLIENT_ERROR error decoding key\r\n"
        return b""

    def __contains__(self, flag: str) -> bool:
        return ord(flag) in self.flags

    def number(self, flag: str, default: int = 0) -> int:
        value = self.flags.get(ord(flag), default)
        assert isinstance(value, int)
        return value

    @property
    def mode(self) -> bytes:
        mode = self.flags.get(ord("M"), b"")
        assert isinstance(mode, bytes)
        return mode

    def returned(self, item: Item | None, item_flag: Callable[[int], bytes] | None = None) -> bytes:
        """Return the requested values: the opaque token, the key and, by `item_flag`, those of the item.

        The key is returned as it was sent when the item was stored, or, if `item` is None, as it was sent now.  Raises
        `InvalidCommand`."""
        returned: list[bytes] = []
        for word in self.words:
            letter = word[0]
            if letter == ord("O"):
                if len(word) > LONGEST_OPAQUE:
                    raise InvalidCommand(BAD_OPAQUE)
                returned.append(b" " + word)
            elif letter == ord("k"):
                binary = "b" in self if item is None else item.state & BINARY_KEY
                returned.append(b" k%b b" % encoded(self.key) if binary else b" k" + plain(self.key))
            elif item_flag is not None:
                returned.append(item_flag(letter))
        return b"".join(returned)
