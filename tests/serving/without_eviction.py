"""``python -m tests.serving.without_eviction ARGUMENTS``: ``daemons ARGUMENTS``, but no connection gives way to others.

For tests in which half messages wait at max_connections for longer than the grace period, on a busy machine."""

from __future__ import annotations

import math
import runpy
import sys

from daemons.serving.guards.eviction import Eviction


def launch(command: list[str]) -> list[str]:
    """Return the command that starts a daemon in this way."""
    module = command.index("daemons")
    return [*command[:module], "tests.serving.without_eviction", *command[module + 1 :]]


def main() -> None:
    Eviction.wait = lambda self, now: math.inf  # type: ignore[method-assign]
    sys.argv[0] = "daemons"
    runpy.run_module("daemons", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
