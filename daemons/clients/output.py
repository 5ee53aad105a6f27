"""What a peer said, on standard output.

To a file or a pipe it goes byte by byte, for the program behind it.  At a terminal it is text, in which control
characters, invisible ones and those that change the direction of writing are escaped (`daemons.printable`), since they
could drive the terminal, or show something else than was sent.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator

from daemons.printable import escape_text


def write_all(pieces: Iterable[bytes], charset: str | None = None, *, end_line: bool = False) -> None:
    """Write all `pieces` and flush: bytes, or at a terminal text in `charset`, else UTF-8.  With `end_line`, and at a
    terminal, a line feed is added if there is none at the end.  Raises `OSError`."""
    sys.stdout.flush()  # the text that was printed before
    last = ""
    if sys.stdout.isatty():
        for text in _lines_of(pieces, charset or "utf-8"):
            sys.stdout.write(escape_text(text))
            last = text
    else:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            last = "\n" if piece.endswith(b"\n") or not end_line else "no line feed"
    if last and not last.endswith("\n"):
        sys.stdout.write("\n")
    sys.stdout.flush()


def _lines_of(pieces: Iterable[bytes], charset: str) -> Iterator[str]:
    r"""Decode `pieces`, with LF in place of CRLF.  What is malformed is written as ``\xff``."""
    decoder = codecs.getincrementaldecoder(charset)("backslashreplace")
    held = ""
    begun = False
    for piece in pieces:
        text = held + decoder.decode(piece)
        if text and not begun:
            begun, text = True, text.removeprefix("\ufeff")
        held = "\r" if text.endswith("\r") else ""
        if text := text.removesuffix("\r").replace("\r\n", "\n"):
            yield text
    if text := held + decoder.decode(b"", final=True):
        yield text
