"""The secret that signs cookies and forms: a file that is made on first use, for its owner alone."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from daemons.webapp.creation import create

#: Octets: less could be guessed; more is not a secret but some other file.
SHORTEST, LONGEST = 32, 4096


class Secret:
    """What is in the file at `path`, once it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._octets = b""

    def complaint(self) -> str:
        """What is wrong with the file; nothing where there is none yet."""
        try:
            self._read()
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"{self._path}: {(error.strerror or str(error)).lower()}"
        except ValueError as error:
            return str(error)
        return ""

    def octets(self) -> bytes:
        """The secret; where there is none, it is made now.  Raises `OSError`, and `ValueError` for what is no secret
        or lies open."""
        if not self._octets:
            try:
                self._octets = self._read()
            except FileNotFoundError:
                create(self._path, f"{secrets.token_hex(SHORTEST)}\n".encode("ascii"))
                self._octets = self._read()  # ours, or of the process that was first
        return self._octets

    def derived(self, purpose: str, text: str) -> str:
        """What nobody can tell who does not know the secret: for one purpose, from one text."""
        return hmac.new(self.octets(), f"{purpose}\0{text}".encode(), "sha256").hexdigest()

    def _read(self) -> bytes:
        # Not blocking: it might be a FIFO.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise ValueError(f"{self._path}: not a regular file; a secret of {SHORTEST} octets is expected")
            if about.st_mode & 0o077:
                mode = stat.S_IMODE(about.st_mode)
                raise ValueError(f"{self._path}: others may read it, mode {mode:04o}; 0600 is expected: chmod 600")
            found = os.read(descriptor, LONGEST + 1).strip()
        finally:
            os.close(descriptor)
        if not SHORTEST <= len(found) <= LONGEST:
            reason = f"a secret of {SHORTEST} to {LONGEST} octets is expected; without the file, one is made"
            raise ValueError(f"{self._path}: {reason}")
        return found
