"""Remaining pieces of a reply.  No sockets, no clocks, no threads, no log."""

from __future__ import annotations

from collections.abc import Iterator

from daemons.serving.conversation.file_slice import FileSlice

#: Approximate bytes of replies per batch.  For a peer that sends many messages and reads no replies, the server holds
#: at most one batch and one reply, not all replies.
BATCH = 64 * 1024


#: Advice in the error for a reply that is not bytes, by the name of its type.
_ADVICE = {"None": 'b"" for no reply', "str": "for example text.encode()", "bytearray": "for example bytes(reply)"}


def not_bytes(what: str, reply: object) -> TypeError:
    """Return the error for a reply that is not bytes; `what` is a subject and verb, as ``Zen.respond returned``."""
    kind = "None" if reply is None else type(reply).__name__
    advice = f", {_ADVICE[kind]}" if kind in _ADVICE else ""
    return TypeError(f"{what} {kind}; bytes are expected{advice}")


class ReplyStream:
    """Remaining pieces of `iterator`: bytes and file slices.  `name` is the class of the service, for errors."""

    __slots__ = ("_file_slice", "_iterator", "_name", "failure", "last", "over")

    def __init__(self, iterator: Iterator[object], name: str) -> None:
        self._iterator = iterator
        self._name = name
        self._file_slice: FileSlice | None = None
        #: Whether this is the last reply of a talk.
        self.last = False
        #: Whether the iterator is exhausted.
        self.over = False
        #: Exception raised by the iterator.
        self.failure: BaseException | None = None

    @property
    def file_slice(self) -> FileSlice | None:
        """File slice that is next; None if bytes are next."""
        return self._file_slice if self._file_slice is not None and self._file_slice.left else None

    def draw(self, files: bool) -> bytes:
        """Return the next pieces, joined, up to a batch; with `files`, stop before a slice that sendfile(2) can send.

        An empty piece ends the batch, so that other conversations get a turn.  Set `over` or `failure` at the end.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            while size < BATCH:
                if (file_slice := self.file_slice) is not None:
                    if files and file_slice.sendable:
                        break
                    piece: object = file_slice.read(BATCH - size)
                elif (piece := next(self._iterator)) == b"":
                    break
                elif isinstance(piece, FileSlice):
                    self._file_slice = piece
                    if pieces and size + piece.left > BATCH:
                        break  # sendfile(2) can send a slice that begins a batch
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
        """Close the iterator, if it has a close() method, as generators and files have."""
        if (close := getattr(self._iterator, "close", None)) is not None:
            close()
