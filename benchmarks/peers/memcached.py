"""memcached with one thread: `python -m benchmarks.peers.memcached`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.grail import BACKLOG, announce, end_with_parent
from benchmarks.unchanged import SCRATCH_VARIABLE

READY_SECONDS = 10.0


def main() -> None:
    """Runs memcached on a free port, which it writes into a file."""
    program = shutil.which("memcached")
    if program is None:
        sys.exit("memcached is not here; as root: make engines")
    file = Path(os.environ[SCRATCH_VARIABLE]) / "memcached.port"
    command = [program, "-l", "127.0.0.1", "-p", "-1", "-U", "0", "-t", "1", "-c", "4096", "-b", str(BACKLOG)]
    if os.geteuid() == 0:
        command += ["-u", "root"]
    environment = os.environ | {"MEMCACHED_PORT_FILENAME": str(file)}
    process = subprocess.Popen(command, env=environment, preexec_fn=end_with_parent)
    deadline = time.monotonic() + READY_SECONDS
    while not file.exists() or not (text := file.read_text()).endswith("\n"):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit("memcached does not start")
        time.sleep(0.01)
    port = next(int(line.split()[-1]) for line in text.splitlines() if line.startswith("TCP INET:"))
    announce("memcached", port)
    sys.exit(process.wait())


if __name__ == "__main__":
    main()
