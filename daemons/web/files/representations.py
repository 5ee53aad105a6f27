"""Selects the representation of a file, compressed or not, and sends all of it or ranges."""

from __future__ import annotations

import os
from collections.abc import Sequence

from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.reply import Reply
from daemons.web.dates import http_date
from daemons.web.files import ranges
from daemons.web.files.conditions import Validators, tag_of
from daemons.web.files.languages import Variant
from daemons.web.files.lookup import File, Folder, IsFolder, Refused
from daemons.web.files.media import compressible, media_type
from daemons.web.files.negotiation import CompressionCache, prefers_gzip
from daemons.web.handlers.response_parts import ResponseParts

#: Longest body, in bytes, that is read at once; a longer one is read as it is sent.
WHOLE = 64 * 1024

#: Suffix of a precompressed variant.
COMPRESSED = b".gz"

#: Field names and values.
Fields = list[tuple[str, str]]

#: The bytes and ranges that make up a body.
BodyParts = Sequence[bytes | ranges.Range]


class Representation:
    """A representation of an open file.  A context manager that closes the file, unless `body` has passed it on.

    `made` are the compressed bytes, if the daemon has compressed the file; `mark` is the suffix of the entity tag of a
    compressed representation, else empty."""

    def __init__(
        self, file: File, made: bytes | None, media: str, mark: str, now: int, *, vary: str = "", language: str = ""
    ) -> None:
        #: The open file.
        self.file = file
        self._open = True
        #: The compressed bytes; None if the file's own bytes are sent.
        self._made = made
        #: Length in bytes.
        self.size = file.size if made is None else len(made)
        # Last-Modified must not be in the future (RFC 9110, section 8.8.2.1).
        modified = max(0, min(file.modified // 10**9, now))
        self.validators = Validators(
            tag_of(file.modified, file.size, f"-{language}{mark}" if language else mark), modified
        )
        self._media = media
        #: Fields of every response, including 304.
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

    def parts(self, wanted: list[ranges.Range], *, partial: bool) -> tuple[Fields, BodyParts]:
        """Return the fields and the body parts of a response with the ranges `wanted`."""
        fields = [*self.fields, *self._more]
        parts: list[bytes | ranges.Range] = [*wanted]
        if len(wanted) > 1:
            several = ranges.Multipart(wanted, self.size, self._media)
            fields.append(("Content-Type", several.media))
            parts = [piece for pair in zip(several.heads, wanted, strict=True) for piece in pair]
            parts.append(several.end)
        else:
            fields.append(("Content-Type", self._media))
            if partial:
                fields.append(("Content-Range", ranges.content_range(wanted[0], self.size)))
        fields.append(("Content-Length", str(sum(map(_length, parts)))))
        return fields, parts

    def body(self, head: bytes, parts: BodyParts) -> Reply:
        """Return a response with `head` and a body that is read now, or as it is sent.  Raises `OSError` and
        `EOFError`."""
        made, file = self._made, self.file
        if made is not None:
            return b"".join((head, *(each if isinstance(each, bytes) else made[slice(*each)] for each in parts)))
        if sum(map(_length, parts)) <= WHOLE:
            read = (each if isinstance(each, bytes) else file.read(each[0], each[1] - each[0]) for each in parts)
            return b"".join((head, *read))
        self._open = False
        slices = (
            each if isinstance(each, bytes) else FileSlice(file.descriptor, each[0], each[1] - each[0])
            for each in parts
        )
        response = ResponseParts([head, *slices], [file.descriptor])
        response.status_and_size = int(head[9:12]), sum(map(_length, parts))
        return response


class Chooser:
    """Selects representations."""

    def __init__(self) -> None:
        self._compressed = CompressionCache()

    @staticmethod
    def unencoded(folder: Folder, name: bytes, now: int) -> Representation:
        """Open a file without content negotiation."""
        return Representation(folder.open(name), None, media_type(name), "", now)

    def choose(
        self, folder: Folder, name: bytes, accepted: str | None, now: int, variant: Variant | None = None
    ) -> Representation:
        """Select the representation of a file in `folder` for the value of Accept-Encoding.

        `now` is in seconds since 1970; `variant` is the result of language negotiation.  Raises `Refused`, `IsFolder`,
        `OSError` and `EOFError`."""
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
    """Open the precompressed variant of `file`; None if there is none, or it is older than `file`."""
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
