"""Settings and checks for every test: no leaks, and no deadlines for hypothesis."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from functools import partial

import hypothesis
import pytest

from daemons.serving.guards import wait_limit
from tests.leaks import Snapshot, clear

# No deadline: the duration of an example depends on the machine.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


#: Folders of the tests that start many processes, or wait for limits.
LONGEST = ("end_to_end", "promises")

#: Reasons of skips for a missing program that could be installed.
INSTALLABLE = "make engines"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--require-engines``, used by `.ci/run`."""
    text = f"fail a test, instead of skipping it, if a program that `{INSTALLABLE}` installs is missing"
    parser.addoption("--require-engines", action="store_true", help=text)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Use a short base folder, because the path of a Unix socket has at most 107 bytes.  Do not ignore
    SIGINT and SIGHUP, which a shell and nohup(1) have background jobs ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.option.basetemp = tempfile.mkdtemp(prefix="t-", dir="/tmp")
        config.add_cleanup(partial(shutil.rmtree, config.option.basetemp, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `root` the tests that make a network, and begin with the folders of the slowest files.

    Otherwise such a file may be the last, and run while the other processes have nothing to do."""
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)
    for item in items:
        if "network" in getattr(item, "fixturenames", ()):
            item.add_marker("root")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `root` for an ordinary user."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure if ``--require-engines`` is given and the program could be installed."""
    # In Python 3.11.2, a collection within `ast.parse`, which pytest calls for a traceback, may raise SystemError.
    gc.disable()
    try:
        report = yield
    finally:
        gc.enable()
    if report.skipped and isinstance(report.longrepr, tuple) and item.config.getoption("--require-engines"):
        reason = report.longrepr[2]
        if INSTALLABLE in reason:
            report.outcome = "failed"
            report.longrepr = f"{reason} (--require-engines)"
    return report


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread, a descriptor, a child process or a changed signal handler.

    Set up before the other fixtures of a test, and torn down after them."""
    before = Snapshot.take()
    yield
    # The verifier's threads belong to the process, and wait for the next password.
    if verifier := sys.modules.get("daemons.accounts.verifier"):
        verifier.shared.close()
    wait_limit.PROCESS.threads = wait_limit.DEFAULT
    if leaks := before.leaks():
        clear(before)
        pytest.fail("left behind:\n" + "\n".join(leaks), pytrace=False)
