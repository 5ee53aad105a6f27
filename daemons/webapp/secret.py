"""The secret that signs cookies and forms: a file created on first use, readable by its owner only."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from daemons.webapp.creation import create

#: Limits in bytes: a shorter secret could be guessed; a longer file is not a secret.
SHORTEST, LONGEST = 32, 4096


class Secret:
    """The secret in the file at `path`, read when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = b""

    def complaint(self) -> str:
        """Return the error of an invalid file, or "", also if the file does not exist yet."""
        try:
            self._read()
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"{self._path}: {(error.strerror or str(error)).lower()}"
        except ValueError as error:
            return str(error)
        return ""

    def value(self) -> bytes:
        """Return the secret, and create it if necessary.  Raises `OSError`, and `ValueError` for an invalid file
        or a file that other users may read."""
        if not self._value:
            try:
                self._value = self._read()
            except FileNotFoundError:
                create(self._path, f"{secrets.token_hex(SHORTEST)}\n".encode("ascii"))
                self._value = self._read()  # created here, or by another process that was first
        return self._value

    def derived(self, purpose: str, text: str) -> str:
        """Return a token for one purpose and text that cannot be computed without the secret: an HMAC."""
        return hmac.new(self.value(), f"{purpose}\0{text}".encode(), "sha256").hexdigest()

    def _read(self) -> bytes:
        # Non-blocking, in case it is a FIFO.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise ValueError(f"{self._path}: not a regular file; expected a secret of {SHORTEST} bytes")
            if about.st_mode & 0o077:
                mode = stat.S_IMODE(about.st_mode)
                raise ValueError(f"{self._path}: other users may read it, mode {mode:04o}; use chmod 600")
            found = os.read(descriptor, LONGEST + 1).strip()
        finally:
            os.close(descriptor)
        if not SHORTEST <= len(found) <= LONGEST:
            reason = f"expected a secret of {SHORTEST} to {LONGEST} bytes; if the file is missing, it is created"
            raise ValueError(f"{self._path}: {reason}")
        return found
