"""Media types by suffix, from a fixed table, so that they do not depend on the machine."""

from __future__ import annotations

OTHER = "application/octet-stream"

#: RFC 9239 replaces application/javascript by text/javascript.
_TYPES = {
    b"7z": "application/x-7z-compressed",
    b"avif": "image/avif",
    b"bmp": "image/bmp",
    b"bz2": "application/x-bzip2",
    b"css": "text/css",
    b"csv": "text/csv",
    b"gif": "image/gif",
    b"gz": "application/gzip",
    b"htm": "text/html",
    b"html": "text/html",
    b"ico": "image/vnd.microsoft.icon",
    b"ics": "text/calendar",
    b"jpeg": "image/jpeg",
    b"jpg": "image/jpeg",
    b"js": "text/javascript",
    b"json": "application/json",
    b"m4a": "audio/mp4",
    b"md": "text/markdown",
    b"mjs": "text/javascript",
    b"mp3": "audio/mpeg",
    b"mp4": "video/mp4",
    b"ogg": "audio/ogg",
    b"otf": "font/otf",
    b"pdf": "application/pdf",
    b"png": "image/png",
    b"svg": "image/svg+xml",
    b"tar": "application/x-tar",
    b"ttf": "font/ttf",
    b"txt": "text/plain",
    b"wasm": "application/wasm",
    b"wav": "audio/wav",
    b"webm": "video/webm",
    b"webmanifest": "application/manifest+json",
    b"webp": "image/webp",
    b"woff": "font/woff",
    b"woff2": "font/woff2",
    b"xhtml": "application/xhtml+xml",
    b"xml": "application/xml",
    b"xz": "application/x-xz",
    b"zip": "application/zip",
    b"zst": "application/zstd",
}

#: Compressible types besides text.  JSON is always UTF-8 and has no charset (RFC 8259, section 8.1).
_COMPRESSIBLE = ("application/json", "application/manifest+json", "application/wasm", "application/xml")


#: From media types to suffixes of new documents.
_SUFFIXES = {media: suffix.decode("ascii") for suffix, media in _TYPES.items()}
_SUFFIXES |= {"text/html": "html", "text/javascript": "js", "image/jpeg": "jpg"}


def suffix_for(media: str) -> str:
    """Return the suffix, with its dot, for a lower-case media type without parameters."""
    return "." + _SUFFIXES.get(media, "bin")


def media_type(name: bytes) -> str:
    """Return the media type of a file name, with a charset for text."""
    _, dot, suffix = name.rpartition(b".")
    media = _TYPES.get(suffix.lower(), OTHER) if dot else OTHER
    return f"{media}; charset=utf-8" if media.startswith("text/") else media


def compressible(media: str) -> bool:
    """Return whether compression is worthwhile for a media type: images, audio and archives are compressed already."""
    return media.startswith(("text/", *_COMPRESSIBLE)) or media.endswith("+xml")
