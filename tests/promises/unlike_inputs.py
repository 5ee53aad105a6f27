"""Feed one grammar thousands of unlike inputs, and print by how many bytes the process has grown.

For a process of its own: what the tests before have left behind would hide it."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.promises.grammars.table import GRAMMARS


def resident() -> int:
    """Return the bytes of memory that this process holds, other than pages of files."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # give free memory back: malloc_trim(3)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["RssAnon"].split()[0])


def main(name: str) -> int:
    grammar = GRAMMARS[name]
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        feed = grammar.serve(Path(folder))
        for number in range(50):
            feed(grammar.honest(2000))
            feed(grammar.unlike(number))  # modules are imported once
        before = resident()
        for number in range(50, 50 + grammar.count):
            feed(grammar.unlike(number))
        # Responses of HTTP are kept for the second in which they were made.
        second = int(time.time())
        while int(time.time()) <= second:
            feed(grammar.honest(2000))
        feed(grammar.honest(2000))
        print(resident() - before)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
