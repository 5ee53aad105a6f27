"""Unnamed files for data that is too long for memory."""

from __future__ import annotations

import errno
import logging
import os
import tempfile

log = logging.getLogger(__name__)

#: No descriptors are left: a memfd would fail as well.
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

_warned = False


def unnamed_file() -> tuple[int, bool]:
    """Open an unnamed file; return its descriptor, and whether it is in memory.

    It is in memory (memfd_create(2)) if no folder for temporary files is writable, which is logged the first time.
    Raises `OSError`."""
    global _warned
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno()), False
    except OSError as error:
        if error.errno in _NO_DESCRIPTORS:
            raise
        if not _warned:
            _warned = True
            reason = (error.strerror or str(error)).lower()
            log.warning("no folder for temporary files (%s): long responses are kept in memory; set TMPDIR", reason)
        return os.memfd_create("camelot"), True
