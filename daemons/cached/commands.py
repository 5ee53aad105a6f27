"""Commands of memcached's text protocol, on a `Store`: `doc/protocol.txt` of memcached 1.6.

The replies, also those to invalid commands, are those of memcached 1.6.18; docs/caches.md lists the differences.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator

from daemons import Reply
from daemons.cached.meta import MetaCommands
from daemons.cached.statistics import VERSION, Statistics
from daemons.cached.store import Store
from daemons.cached.updates import CR, NOT_FOUND, Updates
from daemons.cached.words import (
    BAD_DELETE,
    BAD_DELTA,
    BAD_EXPTIME,
    BAD_FORMAT,
    ERROR,
    NO_KEY,
    NON_NUMERIC,
    is_key,
    signed32,
    split,
    unsigned32,
    unsigned64,
)
from daemons.framings.memcached import LINE

TOUCHED, DELETED, OK, END = b"TOUCHED\r\n", b"DELETED\r\n", b"OK\r\n", b"END\r\n"

#: A word of a command line.
WORD = re.compile(rb"[^ \r\n]+")

#: Keys and bytes that a reply to a get is made of at once; the rest is made as the client reads it.
KEYS_AT_ONCE, BYTES_AT_ONCE = 128, 64 * 1024


class Commands:
    """Replies to commands.  Thread-safe.

    memory
        Bytes of all items.
    item
        Bytes of the longest value.
    """

    def __init__(self, memory: int, item: int) -> None:
        self.store = Store(memory)
        self.statistics = Statistics(self.store, item)
        self._updates = Updates(self.store, self.statistics, item)
        self._lock = threading.Lock()
        self._clock = self.store.clock
        self._mark_as_used = self.store.items.move_to_end
        self._set = self._updates.set
        meta = MetaCommands(self.store, self.statistics, self._updates)
        #: Commands that parse their message in a method of their own.
        self._by_message: dict[bytes, Callable[[bytes], Reply]] = {
            **dict.fromkeys((b"get", b"gets", b"gat", b"gats"), self._get),
            **dict.fromkeys((b"set", b"add", b"replace", b"append", b"prepend", b"cas"), self._updates.respond),
            **dict.fromkeys((b"mg", b"ms", b"md", b"ma", b"me", b"mn"), meta.respond),
        }
        #: Commands of one line, by their words.
        self._by_words: dict[bytes, Callable[[list[bytes]], Reply]] = {
            b"incr": self._arithmetic,
            b"decr": self._arithmetic,
            b"delete": self._delete,
            b"touch": self._touch,
            b"flush_all": self._flush_all,
            b"stats": self.statistics.respond,
            b"version": lambda words: b"VERSION %b\r\n" % VERSION,
            b"verbosity": self._verbosity,
        }

    def respond(self, message: bytes) -> Reply:
        """Return the reply to a command: a line, with its block of data if it has one."""
        name = message[:4]
        if name == b"get ":
            # The usual case: one key, which is in the store.  Only valid keys are, so the key need not be validated.
            # Without the lock, since each step is one operation of the interpreter.
            key = message[4:-2]
            if (item := self.store.unflushed.get(key)) is not None and message[-2] == CR:
                now = self._clock()
                if now < item.expires:
                    item.read = now
                    try:
                        self._mark_as_used(key)
                    except KeyError:  # another thread has just removed the item
                        pass
                    self.statistics.get_hits += 1
                    return item.reply
        with self._lock:
            if name == b"set ":
                return self._set(message)
            end = message.find(b"\n") + 1
            if end > LINE:
                return self._get(message)  # no other line may be so long; its words may be too many for a list
            words = split(message[:end])
            if not words or len(words[0]) < 2:
                return ERROR
            if (by_message := self._by_message.get(words[0])) is not None:
                return by_message(message)
            by_words = self._by_words.get(words[0])
            return ERROR if by_words is None else by_words(words)

    # --- retrieval ---------------------------------------------------------------------------------

    def _get(self, line: bytes) -> Reply:
        """Reply to get, gets, gat or gats, with any number of keys."""
        words = WORD.finditer(line)
        name = next(words)[0]
        expires = None
        if (first := next(words, None)) is None:
            return ERROR
        start = first.start()
        if name.startswith(b"gat"):
            exptime = signed32(first[0])
            if exptime is None:
                return BAD_EXPTIME
            expires = self.store.deadline(exptime)
            start = first.end()
        if NO_KEY.search(line.rstrip(b"\r\n"), start) is not None:
            return BAD_FORMAT
        pieces = self._values(WORD.finditer(line, start), name.endswith(b"s"), expires)
        taken: list[bytes] = []
        size = 0
        for count, piece in enumerate(pieces):
            taken.append(piece)
            size += len(piece)
            if count >= KEYS_AT_ONCE or size >= BYTES_AT_ONCE:
                return self._remaining(b"".join(taken), pieces)
        return b"".join(taken)

    def _values(self, words: Iterator[re.Match[bytes]], with_cas: bool, expires: float | None) -> Iterator[bytes]:
        """Yield a piece for each key, which is empty if there is no such item, and the end of the reply."""
        store, statistics = self.store, self.statistics
        for word in words:
            key = word[0]
            item = store.fetch(key)
            if expires is None:
                statistics.count_get(item is not None)
            else:
                statistics.count_touch(item is not None)
            if item is None:
                yield b""
                continue
            if expires is not None:
                item.expires = expires
            if with_cas:
                head = item.reply.find(b"\r\n", len(key) + 6)
                yield b"%b %d%b" % (item.reply[:head], item.cas, item.reply[head:-5])
            else:
                yield item.reply[:-5]
        yield END

    def _remaining(self, taken: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the reply as the client reads it; an empty piece lets other clients have their turn."""
        yield taken
        while True:
            size = 0
            batch: list[bytes] = []
            with self._lock:
                for piece in pieces:
                    batch.append(piece)
                    size += len(piece)
                    if len(batch) >= KEYS_AT_ONCE or size >= BYTES_AT_ONCE:
                        break
            if not batch:
                return
            yield b"".join(batch)
            yield b""

    # --- other commands ----------------------------------------------------------------------------

    def _arithmetic(self, words: list[bytes]) -> bytes:
        if not 3 <= len(words) <= 4:
            return ERROR
        reply = self._checked_arithmetic(words)
        return b"" if words[-1] == b"noreply" else reply

    def _checked_arithmetic(self, words: list[bytes]) -> bytes:
        if not is_key(words[1]):
            return BAD_FORMAT
        delta = unsigned64(words[2])
        if delta is None:
            return BAD_DELTA
        increment = words[0] == b"incr"
        item = self.store.peek(words[1])
        if item is None:
            self.statistics.count_arithmetic(increment, False)
            return NOT_FOUND
        result = self._updates.add(words[1], item, delta, increment)
        return NON_NUMERIC if result is None else result + b"\r\n"

    def _touch(self, words: list[bytes]) -> bytes:
        if not 3 <= len(words) <= 4:
            return ERROR
        exptime = signed32(words[2])
        if not is_key(words[1]):
            reply = BAD_FORMAT
        elif exptime is None:
            reply = BAD_EXPTIME
        else:
            item = self.store.fetch(words[1])
            self.statistics.count_touch(item is not None)
            if item is not None:
                item.expires = self.store.deadline(exptime)
            reply = NOT_FOUND if item is None else TOUCHED
        return b"" if words[-1] == b"noreply" else reply

    def _delete(self, words: list[bytes]) -> bytes:
        if not 2 <= len(words) <= 4:
            return ERROR
        silent = words[-1] == b"noreply"
        # A time of 0 is allowed for clients of old versions.
        if words[2:] not in ([], [b"0"], [b"noreply"], [b"0", b"noreply"]):
            return b"" if len(words) > 2 and silent else BAD_DELETE
        if not is_key(words[1]):
            reply = BAD_FORMAT
        elif self.store.peek(words[1]) is None:
            self.statistics.delete_misses += 1
            reply = NOT_FOUND
        else:
            self.statistics.delete_hits += 1
            self.store.remove(words[1])
            reply = DELETED
        return b"" if len(words) > 2 and silent else reply

    def _flush_all(self, words: list[bytes]) -> bytes:
        if len(words) > 3:
            return ERROR
        silent = words[-1] == b"noreply"
        delay: int | None = 0
        if len(words) != (2 if silent else 1):
            delay = signed32(words[1])
        self.statistics.cmd_flush += 1
        if delay is None:
            return b"" if silent else BAD_EXPTIME
        if delay > 0:
            self.store.clear_after(delay)
        else:
            self.store.clear()
        return b"" if silent else OK

    def _verbosity(self, words: list[bytes]) -> bytes:
        """Accept a level, which has no effect: conf/logging.ini has the level of the log."""
        if not 2 <= len(words) <= 3:
            return ERROR
        if words[-1] == b"noreply":
            return b""
        return BAD_FORMAT if unsigned32(words[1]) is None else OK
