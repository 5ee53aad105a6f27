"""Payments that were acknowledged are in the database, once each, with several processes and threads at work.

Promise R31.  Closing any descriptor of a file drops all POSIX locks that the process holds on it (fcntl(2)), and SQLite
relies on such locks: so nothing in a process may open the database but SQLite itself.
"""

from __future__ import annotations

import http.client
import re
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.operating.folder import Folder
from tests.operating.live import Live, talk, until

INI = "[daemon]\nwsgi = daemons.webapp:Webapp\nport = 0\n"

CUSTOMERS = 8

#: Payments of each customer; under forks each request is a process that compiles its page anew.
PAYMENTS = {"threads": 15, "forks": 4, "pool": 15, "loop": 15}

#: Logs each file that Python code opens while this process holds a POSIX lock on it, and each database that it opens
#: at all.  /proc/locks names a file as MAJOR:MINOR:INODE.
WATCH = """
import os, sys

def note(text):
    # os.open and os.write alone: a buffered file would be opened within the hook for the open of another.
    descriptor = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, text.encode())
    os.close(descriptor)

def watch(event, arguments):
    if event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    path = os.fsdecode(arguments[0])
    if path in ("/proc/locks", os.environ["WATCHED"]):
        return
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return
    with open("/proc/locks") as locks:
        held = [line.split() for line in locks]
    inode = f":{found.st_ino}"
    locked = any(f[1] == "POSIX" and f[4] == str(os.getpid()) and f[5].endswith(inode) for f in held if f[1] != "->")
    if locked or path.endswith(".db"):
        note(f"{path}\\n")

note("watched\\n")
sys.addaudithook(watch)
"""


class Customer:
    """A client that is logged in as brandon."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookie = ""
        token = self._token("/bank/login")
        login = {"username": "brandon", "password": "atigdng", "token": token}
        # Under forks each login is verified anew, and too many at once are 503; under loop the first one is.
        until(lambda: self._ask("POST", "/bank/login", **login)[0] == 303, "the login")

    def pay(self, memo: str) -> bool:
        """Return whether the payment was acknowledged."""
        token = self._token("/bank/pay")
        status, _ = self._ask("POST", "/bank/pay", account="psf", dollars="1", memo=memo, token=token)
        return status == 303

    def _token(self, path: str) -> str:
        found = re.search('name="token" value="(.*?)"', self._ask("GET", path)[1])
        return found[1] if found else ""

    def _ask(self, method: str, path: str, **fields: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as client:
            headers = {"Cookie": self._cookie, "Content-Type": "application/x-www-form-urlencoded"}
            client.request(method, path, urlencode(fields) if fields else None, headers)
            response = client.getresponse()
            if given := response.headers["Set-Cookie"]:
                self._cookie = given.partition(";")[0]
            return response.status, response.read().decode()


def pay_all(port: int, payments: int) -> list[str]:
    """Let all customers pay at once; return the memos of the acknowledged payments."""

    def spend(number: int) -> list[str]:
        customer = Customer(port)
        memos = [f"payment {number}.{turn}" for turn in range(payments)]
        return [memo for memo in memos if customer.pay(memo)]

    with ThreadPoolExecutor(CUSTOMERS) as customers:
        return [memo for memos in customers.map(spend, range(CUSTOMERS)) for memo in memos]


def recorded(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [memo for (memo,) in connection.execute("SELECT memo FROM payment WHERE memo GLOB 'payment *'")]


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("engine", PAYMENTS)
def test_acknowledged_payments_are_recorded_once(folder: Folder, engine: str, processes: int) -> None:
    folder.write("x", INI)
    with Live(folder.path, "x", "--engine", engine, "--processes", str(processes)) as daemon:
        told = pay_all(daemon.port, PAYMENTS[engine])
    found = recorded(folder.path / "run" / "webapp.db")
    assert (sorted(set(told) - set(found)), sorted(memo for memo in set(found) if found.count(memo) > 1)) == ([], [])
    # Some may be refused for a busy database, but a test without payments shows nothing.
    assert len(told) >= CUSTOMERS * PAYMENTS[engine] * 0.5


def test_no_file_is_opened_in_which_the_process_holds_a_lock(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("x", f"{INI}[metrics]\nlisten = unix:run/x.sock\n")
    folder.module("sitecustomize", WATCH)
    opened = folder.path / "opened"
    monkeypatch.setenv("PYTHONPATH", str(folder.path))
    monkeypatch.setenv("WATCHED", str(opened))
    with Live(folder.path, "x", "--engine", "pool", "--processes", "2") as daemon:
        assert pay_all(daemon.port, 5)
        assert b"daemons_" in talk(str(folder.path / "run" / "x.sock"), b"GET /metrics HTTP/1.0\r\n\r\n")
    assert set(opened.read_text().splitlines()) == {"watched"}


#: Pays `sys.argv[2]` times, with files limited to `sys.argv[3]` bytes more than the database has; prints the outcomes.
PAY = """
import os, resource, sys
from daemons.webapp import Webapp
from tests.webapp.visitor import Visitor

folder, times, more = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
files = {name: f"{folder}/{name}" for name in ("key", "database", "users")}
visitor = Visitor(Webapp(Webapp.Options(**files)))
visitor.log_in()
token = visitor.token("/bank/pay")
if more:
    limit = os.stat(files["database"]).st_size + more
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for number in range(times):
    fields = {"account": "psf", "dollars": "1", "memo": f"payment {number} ".ljust(200, "x"), "token": token}
    try:
        status = visitor.post("/bank/pay", data=fields).status_code
    except Exception as error:
        status = type(error).__name__
    print("acknowledged" if status == 303 else f"refused:{status}", number)
"""


def outcomes_of(folder: Path, times: int, more: int, *tracer: str) -> tuple[set[str], set[str]]:
    """Return the acknowledged and the refused payments of a paying process."""
    command = [*tracer, sys.executable, "-c", PAY, str(folder), str(times), str(more)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    outcomes = [line.split() for line in done.stdout.splitlines()]
    told = {f"payment {number}" for outcome, number in outcomes if outcome == "acknowledged"}
    return told, {f"payment {number}" for _, number in outcomes} - told


def test_payment_is_not_acknowledged_when_the_disk_is_full(tmp_path: Path) -> None:
    told, refused = outcomes_of(tmp_path, 60, 8192)
    assert told
    assert refused
    assert {memo.rstrip("x ") for memo in recorded(tmp_path / "database")} == told


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: make engines")
def test_payment_is_not_acknowledged_when_it_cannot_be_written_to_the_disk(tmp_path: Path) -> None:
    failing = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync,fdatasync:error=EIO:when=30+7")
    told, refused = outcomes_of(tmp_path, 40, 0, *failing)
    assert told
    assert refused
    # A refused payment may have been written all the same, but never twice.
    found = [memo.rstrip("x ") for memo in recorded(tmp_path / "database")]
    assert told <= set(found)
    assert len(found) == len(set(found))
