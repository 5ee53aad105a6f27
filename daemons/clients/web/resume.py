"""Resumption of downloads with Range and If-Range (RFC 9110, sections 13.1.5 and 14).

FILE.part has the data received so far; FILE.part.of has the URL and the validator that identifies the version of the
file.  FILE.part is renamed to FILE when it is complete.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from daemons.clients.web.atomic_write import name_errors
from daemons.clients.web.common import Failure

if TYPE_CHECKING:
    from typing import Self

#: A Last-Modified at least so many seconds before Date is a strong validator (RFC 9110, section 8.8.2.2).
SETTLED = 60.0

#: Maximum bytes of FILE.part.of.
LONGEST = 16 * 1024


class PartialFile:
    """A partially downloaded file; a context manager that holds a lock.

    Raises `OSError`, and `Failure` if another process holds the lock, or if the target or FILE.part.of exists and is
    not a regular file: the final rename would replace /dev/null, and reading a FIFO would block."""

    def __init__(self, target: Path, url: str) -> None:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(target.stat().st_mode):
                raise Failure(f"-C: {target} is not a regular file")
        if target.is_symlink():
            target = target.resolve()
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._of = target.with_name(f"{target.name}.part.of")
        self._url = url

    def __enter__(self) -> Self:
        self._lock = os.open(self._of, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(self._lock).st_mode):
                raise Failure(f"-C: {self._of} is not a regular file")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise Failure(f"{self.path}: locked by another download") from error
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self.path.exists():
            self._of.unlink(missing_ok=True)
        os.close(self._lock)

    def fields(self) -> list[tuple[str, str]]:
        """Return the header fields that request the rest of the file; none if the download cannot be resumed."""
        validator = self._known()
        if not validator or not self.size:
            return []
        return [("Range", f"bytes={self.size}-"), ("If-Range", validator)]

    @property
    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def total_length(self, response: httpx2.Response) -> int:
        """Return the length of the whole file if a response has all of the rest, else 0: a server may send less than
        was requested (RFC 9110, section 14.2), or ignore If-Range and send a part of another version of the file."""
        if not self._is_same_version(response):
            return 0
        found = re.fullmatch(
            r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", response.headers.get("Content-Range", "")
        )
        if response.status_code != 206 or found is None:
            return 0
        first, last, length = map(int, found.groups())
        return length if first == self.size and last == length - 1 else 0

    def _is_same_version(self, response: httpx2.Response) -> bool:
        """Return whether the ETag or Last-Modified of a response, if it has any, is the stored validator (RFC 9110,
        section 15.3.7.3)."""
        known = self._known()
        name = "ETag" if known.startswith('"') else "Last-Modified"
        return response.headers.get(name, known) == known

    def begin(self, validator: str) -> None:
        """Discard the part and store the validator of a new download; with an empty one it cannot be resumed."""
        self.path.unlink(missing_ok=True)
        self._of.write_text(json.dumps({"url": self._url, "validator": validator}), "utf-8")

    def complete(self) -> None:
        """Rename the part to the target.  Raises `OSError`."""
        with name_errors(self.target):
            os.replace(self.path, self.target)

    def _known(self) -> str:
        with suppress(OSError, ValueError, RecursionError):
            with self._of.open("rb") as file:
                known: Any = json.loads(file.read(LONGEST))
            if isinstance(known, dict) and known.get("url") == self._url and isinstance(known.get("validator"), str):
                found = str(known["validator"])
                return found if re.fullmatch(r"[\x20-\x7e]*", found) else ""
        return ""


def validator_of(response: httpx2.Response) -> str:
    """Return a strong validator of a response, its ETag or Last-Modified; empty if it has none."""
    etag = str(response.headers.get("ETag", ""))
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):
        return etag
    modified = str(response.headers.get("Last-Modified", ""))
    with suppress(ValueError, TypeError, OverflowError):
        age = parsedate_to_datetime(response.headers.get("Date", "")) - parsedate_to_datetime(modified)
        if age.total_seconds() >= SETTLED:
            return modified
    return ""
