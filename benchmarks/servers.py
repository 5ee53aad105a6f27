"""Start a contestant on its core, wait until it is ready, and stop it in any case."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contestants import Contestant, Side
from benchmarks.machine import pinned
from benchmarks.tools import PEER_PYTHON, ROOT
from benchmarks.unchanged import FILES_VARIABLE, SCRATCH_VARIABLE

READY = re.compile(r"^\S+ ready tcp://([0-9.]+):(\d+)", re.MULTILINE)
READY_SECONDS = 15.0
END_SECONDS = 15.0  # more than the drain_timeout of ten
LOOK_SECONDS = 0.01


class Unavailable(Exception):
    """A contestant that cannot be measured here; the text gives the reason."""


@dataclass(frozen=True)
class Server:
    """A running contestant."""

    pid: int
    host: str
    port: str


@contextlib.contextmanager
def running(
    contestant: Contestant, reference: Path, core: int, scratch: Path, files: Path, notes: list[str]
) -> Iterator[Server]:
    """Run a contestant for the length of a with block.

    Its standard output, which is our access log as shipped, goes to a file. It has its own session, so that Ctrl-C
    reaches only the runner, which then stops the contestant with all its children.

    Args:
        scratch: an empty folder for files that it writes.
        files: the folder that it serves.
        notes: receives a line if one of our servers exits with a status other than 0.
    """
    log, errors = scratch / "stdout", scratch / "stderr"
    folders = {FILES_VARIABLE: str(files), SCRATCH_VARIABLE: str(scratch)}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | folders  # the path is for benchmarks.impure
    command = contestant.command(reference, PEER_PYTHON, scratch, files)
    process = None
    try:
        with log.open("wb") as output, errors.open("wb") as trouble, pinned(core):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=trouble,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )
        host, port = _wait_until_ready(process, errors)
        yield Server(process.pid, host, port)
        if process.poll() is not None:
            raise RuntimeError(f"{contestant.name} died while it was measured: {_last_line(errors)}")
    finally:
        status = _end(process) if process is not None else 0
    if contestant.side is Side.OURS and status != 0:
        notes.append(f"{contestant.name} ended with {status} on SIGTERM instead of 0: {_last_line(errors)}")


def _wait_until_ready(process: subprocess.Popen[bytes], errors: Path) -> tuple[str, str]:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        ready = READY.search(errors.read_text(errors="replace"))
        if ready:
            return ready[1], ready[2]
        if process.poll() is not None:
            raise Unavailable(f"ended with {process.returncode} before it was ready: {_last_line(errors)}")
        time.sleep(LOOK_SECONDS)
    raise Unavailable(f"not ready within {READY_SECONDS:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> int:
    """Terminate a process, then kill it, and kill children left over. Returns its exit status."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # The session opened for it has its pid as process group, with no other processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _last_line(errors: Path) -> str:
    lines = errors.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
