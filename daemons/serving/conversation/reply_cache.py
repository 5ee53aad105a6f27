"""Adaptive cache of framed inputs and replies, shared by all conversations of a service.

No sockets, no clocks, no threads, no log.
"""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.cache import BoundedCache

#: Bytes per recv(2) while messages are short, as most are.  A bytes object of this size, with 32 bytes of header and a
#: NUL at its end, is the longest from Python's own allocator (512 bytes, Objects/obmalloc.c); malloc(3) takes three
#: times as long.
SHORT = 512 - 32 - 1

#: Entries per table.  `daemons.framings.cache.ROOM` bounds their bytes.
MAX_ENTRIES = 1024

#: Bytes of the longest input that is cached.  Replies are cached for inputs shorter than `SHORT` only: if recv(2)
#: returns such an input, the socket buffer is empty, and the caller need not read again.
MAX_INPUT = 1024

#: Bytes of the longest reply that is cached.
MAX_REPLY = 4096

#: Most messages per cached input; together they may have `MAX_INPUT` bytes.  Each is an object, and a framing that
#: decompresses can turn a kilobyte into a megabyte.
MAX_MESSAGES = 64

#: Estimated overhead of an entry in bytes, in addition to its input, messages and reply.
ENTRY_OVERHEAD = 300

#: Lookups over which the hit rate is measured.
WINDOW = 1024

#: Number of lookups for which the cache is off after a hit rate below one half: enough that sampling takes less than
#: 1 % of the CPU.
PAUSE = 256 * WINDOW

#: Maximum number of misses between two samples.  The first sample begins after `WINDOW` misses.  A sample costs hits,
#: since the tables are empty meanwhile; so each sample with a hit rate of at least one half doubles the interval.
MAX_MISSES = 16 * WINDOW

#: A cached reply: length of the input in bytes, number of messages in it, reply, length of the reply in bytes.
CachedReply = tuple[int, int, bytes, int]


class ReplyCache:
    """Bounded cache of how inputs are framed and, for a pure service, of the replies.

    Both depend on the bytes alone, provided that the decoder holds nothing.  Thread-safe: a race may lose an entry or
    a count.

    The cache is adaptive.  While fewer than half of the last `WINDOW` lookups are hits, the tables are empty and
    `paused` is positive; after `PAUSE` lookups the hit rate is measured again.  Callers read the tables directly, so
    hits cannot be counted.  To measure the hit rate, the tables are emptied: every input then reaches `put`, which
    passes it to a `_Sample`.
    """

    __slots__ = (
        "_framed",
        "_max_misses",
        "_misses",
        "_plain",
        "_pure",
        "_replies",
        "_sample",
        "_single",
        "framed",
        "paused",
        "replies",
        "single",
    )

    def __init__(self, *, pure: bool, plain: bool) -> None:
        """`pure`: replies depend on the message alone; `plain`: each message has a reply of its own, sent unchanged."""
        self._pure = pure
        self._plain = plain
        self._single: BoundedCache[bytes, bytes] = BoundedCache(MAX_ENTRIES)
        self._framed: BoundedCache[bytes, Sequence[bytes]] = BoundedCache(MAX_ENTRIES)
        self._replies: BoundedCache[bytes, CachedReply] = BoundedCache(MAX_ENTRIES)
        #: From an input to the single message in it, if `plain`.
        self.single = self._single.table
        #: From any other input to the messages in it.
        self.framed = self._framed.table
        #: From an input to the reply, if `pure`.
        self.replies = self._replies.table
        #: Number of lookups until the hit rate is measured again.  While it is positive, `put` stores nothing, and a
        #: caller may decrement this number instead of a lookup and a call of `put`.
        self.paused = 0
        self._misses = 0
        self._max_misses = WINDOW
        self._sample: _Sample | None = None

    def put(self, data: bytes, messages: Sequence[bytes], reply: bytes) -> None:
        """Store the messages in `data`, and the reply to them, after a lookup that missed.

        Precondition: the decoder held nothing before `data`, and holds nothing after it.
        """
        if (paused := self.paused) > 0:
            self.paused = paused - 1  # not `-= 1`, which two threads could make negative
            return
        if (sample := self._sample) is not None:
            self._measure(sample, data)
            return
        self._misses += 1
        if self._misses >= self._max_misses:
            self._clear()
            self._sample = _Sample()
        elif len(data) > MAX_INPUT:
            return
        elif self._pure and len(data) < SHORT and len(reply) <= MAX_REPLY:
            self._replies.put(
                data, (len(data), len(messages), reply, len(reply)), ENTRY_OVERHEAD + len(data) + len(reply)
            )
        elif len(messages) > MAX_MESSAGES or sum(map(len, messages)) > MAX_INPUT:
            return
        elif self._plain and len(messages) == 1:
            self._single.put(data, messages[0], ENTRY_OVERHEAD + len(data) + messages[0].__sizeof__())
        else:
            self._framed.put(
                data, tuple(messages), ENTRY_OVERHEAD + len(data) + sum(each.__sizeof__() for each in messages)
            )

    def _measure(self, sample: _Sample, data: bytes) -> None:
        """Count `data` in the sample; when it is complete, use the cache or pause it."""
        if not sample.count(data):
            return
        self._misses = 0
        if sample.hits * 2 < WINDOW:
            self._max_misses = WINDOW
            self._sample = _Sample()
            self.paused = PAUSE
        else:
            self._max_misses = min(2 * self._max_misses, MAX_MISSES)
            self._sample = None

    def _clear(self) -> None:
        for cache in (self._single, self._framed, self._replies):
            cache.clear()


class _Sample:
    """Simulation of a cache of `MAX_ENTRIES` entries: `WINDOW` lookups fill it, `hits` counts in as many more."""

    __slots__ = ("_lookups", "_seen", "hits")

    def __init__(self) -> None:
        self.hits = 0
        self._lookups = 0
        # Only the hashes, since the inputs would take a megabyte.  A collision counts as a hit.
        self._seen: set[int] = set()

    def count(self, data: bytes) -> bool:
        """Count a lookup of `data`; return whether the sample is complete."""
        self._lookups += 1
        if (key := hash(data)) in self._seen:
            self.hits += self._lookups > WINDOW
        elif len(data) <= MAX_INPUT:
            if len(self._seen) >= MAX_ENTRIES:
                self._seen.clear()
            self._seen.add(key)
        return self._lookups >= 2 * WINDOW
