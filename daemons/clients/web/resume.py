"""A download that goes on where it was broken off: Range and If-Range, RFC 9110, sections 13.1.5 and 14.

What has come is in FILE.part, and in FILE.part.of what it is a part of: the URL, and the validator by which the server
can tell that it is the same.  FILE is there when it is whole.
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

from daemons.clients.web.atomic_write import named
from daemons.clients.web.common import Failure

if TYPE_CHECKING:
    from typing import Self

#: A Last-Modified that is so many seconds older than the response cannot be shared by two versions (RFC 9110, section
#: 8.8.2.2).
SETTLED = 60.0

#: Nobody's validator is longer.
LONGEST = 16 * 1024


class Part:
    """What there is of a file, for one at a time: to be used in a ``with``.  Raises `OSError`, and `Failure` where
    somebody else has it, and for what a file could not be renamed to without harm, such as /dev/null."""

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
        self._lock = os.open(self._of, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise Failure(f"{self.path}: somebody else is fetching it") from error
        return self

    def __exit__(self, *_: object) -> None:
        if not self.path.exists():
            self._of.unlink(missing_ok=True)
        os.close(self._lock)

    def fields(self) -> list[tuple[str, str]]:
        """Those that ask for the rest, if the rest belongs to what is there; else none."""
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

    def whole(self, response: httpx2.Response) -> int:
        """Return the length of the whole file if a response is all of the rest of it, else 0: a server may send less
        than it was asked for (RFC 9110, section 14.2)."""
        found = re.fullmatch(
            r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", response.headers.get("Content-Range", "")
        )
        if response.status_code != 206 or found is None:
            return 0
        first, last, length = map(int, found.groups())
        return length if first == self.size and last == length - 1 else 0

    def begin(self, validator: str) -> None:
        """Start from nothing, and remember the version of the file; an empty validator is never continued."""
        self.path.unlink(missing_ok=True)
        self._of.write_text(json.dumps({"url": self._url, "validator": validator}), "utf-8")

    def complete(self) -> None:
        """It is whole."""
        with named(self.target):
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
    """What tells this version from every other; empty where nothing does for sure.  A weak ETag does not."""
    etag = str(response.headers.get("ETag", ""))
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):
        return etag
    modified = str(response.headers.get("Last-Modified", ""))
    with suppress(ValueError, TypeError):
        age = parsedate_to_datetime(response.headers.get("Date", "")) - parsedate_to_datetime(modified)
        if age.total_seconds() >= SETTLED:
            return modified
    return ""
