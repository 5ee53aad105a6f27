"""Reading of files that settings and options name: other kinds of files may block, or be endless."""

from __future__ import annotations

import errno
import os
import stat

#: Maximum bytes of a file: many more than those of any ini, zone or bundle of certificates.
LARGEST = 64 * 1024**2


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a regular file of up to `LARGEST` bytes, or of /dev/null.

    Raises `OSError`, for other files without waiting."""
    descriptor = _opened(path)
    try:
        # The size is checked again, since the file may grow, and files of proc(5) have size 0.
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise _too_large(path)
    return content


def check(path: str | os.PathLike[str]) -> None:
    """Raise `OSError` as `read_bytes`, for a file that a library opens itself."""
    os.close(_opened(path))


def _opened(path: str | os.PathLike[str]) -> int:
    # O_NONBLOCK: open(2) of a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) and not os.path.samestat(status, os.stat(os.devnull)):
            code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
            raise OSError(code, os.strerror(code) if code == errno.EISDIR else "not a regular file", os.fspath(path))
        if status.st_size > LARGEST:
            raise _too_large(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _too_large(path: str | os.PathLike[str]) -> OSError:
    return OSError(errno.EFBIG, f"larger than {LARGEST // 1024**2} MiB", os.fspath(path))
