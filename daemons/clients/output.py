"""Writing of replies to standard output.

To a file or a pipe, a reply is written as the bytes that the peer sent.  To a terminal it is written as text, and
control, invisible and bidirectional characters are escaped (`daemons.printable`), since they could control the terminal
or misrepresent the text.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator

from daemons.printable import escape_text


def write_all(pieces: Iterable[bytes], charset: str | None = None, *, end_line: bool = False) -> None:
    """Write all `pieces` and flush: as bytes, or to a terminal as text decoded from `charset` (default UTF-8).

    With `end_line`, and to a terminal, a missing line feed is added at the end.  Raises `OSError`."""
    sys.stdout.flush()  # text printed earlier is still in the text layer's buffer
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
    r"""Decode `pieces`, with LF in place of CRLF.  Malformed bytes become escapes such as ``\xff``."""
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
