"""A reply that comes in pieces: what is left of it.  No sockets, no clocks, no threads, no log."""

from __future__ import annotations

from collections.abc import Iterator

from daemons.serving.conversation.file_slice import FileSlice

#: Replies are handed over in batches of about this many bytes, so that a peer that asks much and
#: reads nothing is bounded by one batch and one reply, not by all it asked for.
BATCH = 64 * 1024


#: What to write in place of a reply that is not bytes.
_ADVICE = {"None": 'b"" for no reply', "str": "as text.encode() makes", "bytearray": "as bytes(reply) makes"}


def not_bytes(what: str, reply: object) -> TypeError:
    """Return the error for a reply that is not bytes; `what` says where it came from."""
    kind = "None" if reply is None else type(reply).__name__
    advice = f", {_ADVICE[kind]}" if kind in _ADVICE else ""
    return TypeError(f"{what} {kind}; bytes are expected{advice}")


class ReplyStream:
    """The pieces that `iterator` has yet to give: bytes, and spans of files.  `name` is whose reply it is."""

    __slots__ = ("_iterator", "_name", "_span", "failure", "last", "over")

    def __init__(self, iterator: Iterator[object], name: str) -> None:
        self._iterator = iterator
        self._name = name
        self._span: FileSlice | None = None
        #: Whether these are a talk's last words.
        self.last = False
        #: Whether there are no more.
        self.over = False
        #: What it raised.
        self.failure: BaseException | None = None

    @property
    def span(self) -> FileSlice | None:
        """What of a file comes next."""
        return self._span if self._span is not None and self._span.left else None

    def draw(self, files: bool) -> bytes:
        """The next pieces, up to a batch; with `files`, up to a span.  An empty one ends the batch: others get their
        turn.  Sets `over` or `failure` at the end."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < BATCH:
                if (span := self.span) is not None:
                    if files and span.sendable:
                        break
                    piece: object = span.read(BATCH - size)
                elif (piece := next(self._iterator)) == b"":
                    break
                elif isinstance(piece, FileSlice):
                    self._span = piece
                    if pieces and size + piece.left > BATCH:
                        break  # from the next batch on, it may be sent as it is
                    continue
                if not isinstance(piece, bytes):
                    raise not_bytes(f"a reply of {self._name} in pieces yielded", piece)
                pieces.append(piece)
                size += len(piece)
        except StopIteration:
            self.over = True
        except BaseException as failure:
            self.failure = failure
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """No more are wanted.  An iterator need not have a close(); generators and files have."""
        if (close := getattr(self._iterator, "close", None)) is not None:
            close()
