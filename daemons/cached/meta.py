"""Meta commands: mg, ms, md, ma, mn and me.  Their flags select the operation and the reply.

A reply has two letters, and the requested values in the order of the flags: "Meta Commands" in ``doc/protocol.txt`` of
memcached 1.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from daemons.cached.meta_request import InvalidCommand, Request, decoded, encoded, plain
from daemons.cached.statistics import Statistics
from daemons.cached.store import BINARY_KEY, STALE, TOKEN_SENT, Item, Store, reply_of, size_of
from daemons.cached.updates import EXISTS, NOT_FOUND, NOT_STORED, STORED, Updates, parts
from daemons.cached.words import (
    BAD_CHUNK,
    BAD_FORMAT,
    ERROR,
    LONGEST_KEY,
    NON_NUMERIC,
    TOO_LARGE,
    is_key,
    is_length,
    split,
)

#: Words of the longest command.
MOST_WORDS = 19

TOO_MANY_FLAGS = b"CLIENT_ERROR options flags are too long\r\n"
BAD_FLAGS = b"CLIENT_ERROR invalid or duplicate flag\r\n"

#: Mode of ms, the argument of its flag M, and the command that stores in this way.
MODES = {b"": b"set", b"S": b"set", b"E": b"add", b"A": b"append", b"P": b"prepend", b"R": b"replace"}

#: Results of ms.
RESULTS = {STORED: b"HD", NOT_STORED: b"NS", EXISTS: b"EX", NOT_FOUND: b"NF"}


class MetaCommands:
    """Replies to meta commands.  Not thread-safe: the caller serializes all calls."""

    def __init__(self, store: Store, statistics: Statistics, updates: Updates) -> None:
        self._store = store
        self._statistics = statistics
        self._updates = updates
        self._commands: dict[bytes, Callable[[list[bytes], bytes], bytes]] = {
            b"mg": self._get,
            b"ms": self._set,
            b"md": self._delete,
            b"ma": self._arithmetic,
            b"me": self._debug,
        }

    def respond(self, message: bytes) -> bytes:
        """Return the reply to a command: a line, with its block of data if it has one."""
        end = message.find(b"\n") + 1
        words = split(message[:end])
        if words[0] == b"mn":
            return b"MN\r\n"
        if (command := self._commands.get(words[0])) is None:
            return ERROR
        if len(words) < 2:
            return BAD_FORMAT if words[0] == b"me" else ERROR
        if len(words[1]) > LONGEST_KEY:
            return BAD_FORMAT
        if len(words) > MOST_WORDS:
            return TOO_MANY_FLAGS if words[0] == b"mg" else TOO_MANY_FLAGS.replace(b"are ", b"")
        try:
            return command(words, message[end:])
        except InvalidCommand as error:
            return error.reply

    def _get(self, words: list[bytes], block: bytes) -> bytes:
        request = Request(words, 2)
        key, store, state = request.key, self._store, 0
        item = store.peek(key)
        won = False
        if item is None and "N" in request:
            item = store.put(key, reply_of(key, b"0", b""), math.inf)
            won = request.created = True
        if item is None:
            self._count(request, False)
            reply = b"EN%b\r\n" % request.returned(None)
            return b"" if "q" in request else reply
        state = item.state
        if "R" in request and not request.created and not state & TOKEN_SENT and item.expires < math.inf:
            seconds = request.number("R")
            won = seconds != 0 and item.expires < store.deadline(seconds)
        returned = request.returned(item, lambda letter: self._item_flag(letter, request, item))
        if state & TOKEN_SENT:
            returned += b" Z"
        if state & STALE:
            returned += b" X"
            won = won or not state & TOKEN_SENT
        if won:
            returned += b" W"
            item.state |= TOKEN_SENT
        reply = b"HD%b\r\n" % returned
        if "v" in request:
            value = parts(key, item)[1]
            reply = b"VA %d%b\r\n%b\r\n" % (len(value), returned, value)
        if "u" not in request:
            store.fetch(key)
        self._count(request, True)
        return reply

    def _count(self, request: Request, hit: bool) -> None:
        self._statistics.cmd_meta += 1
        if "T" in request:
            self._statistics.count_touch(hit)
        else:
            self._statistics.count_get(hit)

    def _item_flag(self, letter: int, request: Request, item: Item) -> bytes:
        """Return the value that a flag of mg requests of an item; empty if it requests none.

        Flags take effect in their order, so N and T change the expiration time here."""
        key = request.key
        match chr(letter):
            case "N" if request.created:
                item.expires = self._store.deadline(request.number("N"))
            case "T":
                item.expires = self._store.deadline(request.number("T"))
            case "s":
                return b" s%d" % len(parts(key, item)[1])
            case "t":
                return b" t%d" % self._seconds_left(item)
            case "c":
                return b" c%d" % item.cas
            case "f":
                return b" f%b" % parts(key, item)[0]
            case "l":
                return b" l%d" % (self._store.clock() - item.accessed)
            case "h":
                return b" h1" if item.read else b" h0"
        return b""

    def _seconds_left(self, item: Item) -> int:
        """Return the seconds until an item expires, -1 for never."""
        if item.expires == math.inf:
            return -1
        return max(0, math.ceil(item.expires - self._store.clock()))

    def _set(self, words: list[bytes], block: bytes) -> bytes:
        if len(words) == 2 or not is_length(words[2]):
            return BAD_FORMAT
        request = Request(words, 3)
        name = MODES.get(request.mode)
        if name is None:
            raise InvalidCommand(b"CLIENT_ERROR invalid mode for ms M token\r\n")
        request.returned(None)  # raises for a long opaque token
        self._statistics.cmd_meta += 1
        if not block:
            self._updates.discard(request.key)
            self._statistics.store_too_large += 1
            return TOO_LARGE
        self._statistics.cmd_set += 1
        if not block.endswith(b"\r\n"):
            return BAD_CHUNK
        if "C" in request and name in (b"set", b"replace"):
            name = b"cas"
        result = self._updates.store(
            *(name, request.key, b"%d" % request.number("F"), block[:-2]),
            self._store.deadline(request.number("T")),
            cas=request.number("C"),
            state=BINARY_KEY if "b" in request else 0,
            may_be_stale="I" in request,
        )
        if (letters := RESULTS.get(result)) is None:
            return result
        if letters == b"HD" and "q" in request:
            return b""
        item = self._store.peek(request.key) if letters == b"HD" else None
        cas = b" c%d" % (item.cas if item is not None else 0)
        return b"%b%b\r\n" % (letters, request.returned(item, lambda letter: cas if letter == ord("c") else b""))

    def _delete(self, words: list[bytes], block: bytes) -> bytes:
        request = self._request_of(words)
        returned = request.returned(None)
        self._statistics.cmd_meta += 1
        item = self._store.peek(request.key)
        if item is None or ("C" in request and item.cas != request.number("C")):
            self._statistics.delete_misses += 1
            return b"%b%b\r\n" % (b"NF" if item is None else b"EX", returned)
        if "I" in request:
            if "T" in request:
                item.expires = self._store.deadline(request.number("T"))
            item.state = (item.state | STALE) & ~TOKEN_SENT
            item.cas = self._store.next_cas()
        else:
            self._statistics.delete_hits += 1
            self._store.remove(request.key)
        return b"" if "q" in request else b"HD%b\r\n" % returned

    def _arithmetic(self, words: list[bytes], block: bytes) -> bytes:
        request = self._request_of(words)
        if request.mode not in (b"", b"I", b"+", b"D", b"-"):
            raise InvalidCommand(b"CLIENT_ERROR invalid mode for ma M token\r\n")
        increment = request.mode in (b"", b"I", b"+")
        request.returned(None)  # raises for a long opaque token
        key, store = request.key, self._store
        self._statistics.cmd_meta += 1
        item = store.peek(key)
        silent = "q" in request and item is not None
        if item is not None and request.number("C", item.cas) not in (0, item.cas) and parts(key, item)[1]:
            return b"EX%b\r\n" % request.returned(None)
        if item is not None:
            result = self._updates.add(key, item, request.number("D", 1), increment)
            if result is None:
                return NON_NUMERIC
            item = store.peek(key)
        elif "N" in request:
            result = b"%d" % request.number("J")
            item = store.put(key, reply_of(key, b"0", result), math.inf)
            request.created = True
        if item is None or result is None:
            self._statistics.count_arithmetic(increment, False)
            return b"NF%b\r\n" % request.returned(None)
        returned = request.returned(
            None, lambda letter: self._item_flag(letter, request, item) if letter in b"NTct" else b""
        )
        if silent:
            return b""
        if "v" in request:
            return b"VA %d%b\r\n%b\r\n" % (len(result), returned, result)
        return b"HD%b\r\n" % returned

    def _request_of(self, words: list[bytes]) -> Request:
        """Return the request of md or ma, which do not say which flag is wrong."""
        try:
            return Request(words, 2)
        except InvalidCommand as error:
            raise error if error.reply == BAD_FORMAT else InvalidCommand(BAD_FLAGS) from None

    def _debug(self, words: list[bytes], block: bytes) -> bytes:
        """Reply to me: the properties of an item for people; programs use mg."""
        key = words[1]
        self._statistics.cmd_meta += 1
        if words[2:3] == [b"b"]:
            try:
                key = decoded(key)
            except ValueError:
                return BAD_FORMAT
        elif not is_key(key):
            return BAD_FORMAT
        item = self._store.peek(key)
        if item is None:
            return b"EN\r\n"
        shown = encoded(key) if item.state & BINARY_KEY else plain(key)
        left = self._seconds_left(item)
        return b"ME %b exp=%d la=%d cas=%d fetch=%b cls=1 size=%d\r\n" % (
            *(shown, min(left, -left), self._store.clock() - item.accessed, item.cas),
            *(b"yes" if item.read else b"no", size_of(key, item)),
        )
