"""What of a file is sent: its own octets or compressed ones, all of them or parts."""

from __future__ import annotations

import os
from collections.abc import Sequence

from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.service import Reply
from daemons.web.dates import http_date
from daemons.web.files import ranges
from daemons.web.files.conditions import Validators, tag_of
from daemons.web.files.languages import Variant
from daemons.web.files.lookup import File, Folder, IsFolder, Refused
from daemons.web.files.media import compressible, media_type
from daemons.web.files.negotiation import CompressionCache, prefers_gzip
from daemons.web.handlers.response_buffer import Parts

#: Octets of a body that is sent in one piece; a longer one is read while it is sent.
WHOLE = 64 * 1024

#: What the name of a file ends with that somebody has compressed another to.
COMPRESSED = b".gz"

#: Names and values.
Fields = list[tuple[str, str]]

#: What a body is put together from.
ReplyStream = Sequence[bytes | ranges.Range]


class Representation:
    """An open file, or what was made from one; to be used in a ``with``, which closes it, unless it is being sent."""

    def __init__(
        self, file: File, made: bytes | None, media: str, mark: str, now: int, *, vary: str = "", language: str = ""
    ) -> None:
        #: The file that was opened; its bytes are sent, or were compressed.
        self.file = file
        self._open = True
        #: What was made; None: the file's own octets.
        self._made = made
        #: Octets.
        self.size = file.size if made is None else len(made)
        # Of a time that is still to come, nothing can have been modified (RFC 9110, section 8.8.2.1).
        modified = max(0, min(file.modified // 10**9, now))
        self.validators = Validators(
            tag_of(file.modified, file.size, f"-{language}{mark}" if language else mark), modified
        )
        self._media = media
        #: What every answer says of it, 304 too.
        self.fields: Fields = [("ETag", self.validators.tag)]
        if vary:
            self.fields.append(("Vary", vary))
        self._more: Fields = [("Last-Modified", http_date(modified)), ("Accept-Ranges", "bytes")]
        if mark:
            self._more.append(("Content-Encoding", "gzip"))
        if language:
            self._more.append(("Content-Language", language))

    def __enter__(self) -> Representation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            os.close(self.file.descriptor)

    def parts(self, wanted: list[ranges.Range], *, partial: bool) -> tuple[Fields, ReplyStream]:
        """The fields of an answer with the ranges that are wanted, and what its body is put together from."""
        fields = [*self.fields, *self._more]
        pieces: list[bytes | ranges.Range] = [*wanted]
        if len(wanted) > 1:
            several = ranges.Multipart(wanted, self.size, self._media)
            fields.append(("Content-Type", several.media))
            pieces = [piece for pair in zip(several.heads, wanted, strict=True) for piece in pair]
            pieces.append(several.end)
        else:
            fields.append(("Content-Type", self._media))
            if partial:
                fields.append(("Content-Range", ranges.content_range(wanted[0], self.size)))
        fields.append(("Content-Length", str(sum(map(_length, pieces)))))
        return fields, pieces

    def body(self, head: bytes, pieces: ReplyStream) -> Reply:
        """`head`, and the body behind it: at once, or read while it is sent.  Raises `OSError` and `EOFError`."""
        made, file = self._made, self.file
        if made is not None:
            return b"".join((head, *(each if isinstance(each, bytes) else made[slice(*each)] for each in pieces)))
        if sum(map(_length, pieces)) <= WHOLE:
            read = (each if isinstance(each, bytes) else file.read(each[0], each[1] - each[0]) for each in pieces)
            return b"".join((head, *read))
        self._open = False
        spans = (
            each if isinstance(each, bytes) else FileSlice(file.descriptor, each[0], each[1] - each[0])
            for each in pieces
        )
        parts = Parts([head, *spans], [file.descriptor])
        parts.status_and_size = int(head[9:12]), sum(map(_length, pieces))
        return parts


class Chooser:
    """Chooses what of a file is sent to whom."""

    def __init__(self) -> None:
        self._compressed = CompressionCache()

    @staticmethod
    def unencoded(folder: Folder, name: bytes, now: int) -> Representation:
        """A file with its own octets, whoever asks."""
        return Representation(folder.open(name), None, media_type(name), "", now)

    def choose(
        self, folder: Folder, name: bytes, accepted: str | None, now: int, variant: Variant | None = None
    ) -> Representation:
        """The representation of a file in `folder` for who sends such an Accept-Encoding; `now` in seconds since 1970.
        `variant` says more of it, where it is in a certain language.  Raises `Refused`, `IsFolder`, `OSError` and
        `EOFError`."""
        media = media_type(name) if variant is None else variant.media
        vary = "Accept-Encoding" if compressible(media) else ""
        language = ""
        if variant is not None:
            language = variant.language
            if variant.chosen:
                vary = f"{vary}, Accept-Language".removeprefix(", ")
        file = folder.open(name)
        if not (compressible(media) and prefers_gzip(accepted)):
            return Representation(file, None, media, "", now, vary=vary, language=language)
        try:
            beside = _newer(folder, name, file)
            if beside is None:
                made = self._compressed.of(file)
                mark = "" if made is None else "-made"
                return Representation(file, made, media, mark, now, vary=vary, language=language)
        except BaseException:
            os.close(file.descriptor)
            raise
        os.close(file.descriptor)
        return Representation(beside, None, media, "-gz", now, vary=vary, language=language)


def _newer(folder: Folder, name: bytes, file: File) -> File | None:
    """What somebody has compressed `file` to since it was last changed."""
    try:
        beside = folder.open(name + COMPRESSED)
    except (Refused, IsFolder):
        return None
    if beside.modified >= file.modified:
        return beside
    os.close(beside.descriptor)
    return None


def _length(piece: bytes | ranges.Range) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
