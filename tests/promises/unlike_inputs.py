"""Feed thousands of unlike inputs to each of some grammars, and print the growth of the process in bytes.

Each grammar has a process of its own, since memory freed by earlier tests would hide the growth.  It is forked after
the imports, which take longer than most of the inputs."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
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


def growth(name: str) -> int:
    """Return the growth of this process in bytes."""
    grammar = GRAMMARS[name]
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
            time.sleep(0.02)
        feed(grammar.honest(2000))
        return resident() - before


def main(names: list[str]) -> int:
    """Print a line with the growth and the name of each grammar.  Returns 1 if one has failed."""
    logging.disable()
    code = 0
    for name in names:
        if child := os.fork():
            code |= os.waitpid(child, 0)[1]
            continue
        try:
            print(growth(name), name, flush=True)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return min(code, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
