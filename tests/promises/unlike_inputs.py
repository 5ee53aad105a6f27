"""Feed thousands of unlike inputs to one grammar, and print the growth of the process in bytes.

Run in a process of its own, since memory freed by earlier tests would hide the growth."""

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
    """Return the resident bytes of this process, without pages of files."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # release free memory: malloc_trim(3)
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
        # HTTP responses are cached for one second.
        second = int(time.time())
        while int(time.time()) <= second:
            feed(grammar.honest(2000))
        feed(grammar.honest(2000))
        print(resident() - before)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
