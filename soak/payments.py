"""Payments while processes die: no acknowledged payment is lost, none is recorded twice.

Clients pay at webapp, under each engine and with 1, 2 and 4 processes.  Meanwhile a worker is killed every 100 ms, and
SIGHUP renews the workers every second; with one process the daemon itself is killed, and started again.  In the last
round one of several calls of fsync(2) and fdatasync(2) fails, which strace(1) injects.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from soak.history import History
from soak.place import BIN, PlaceError, free_ports, until
from tests.operating.live import children

CUSTOMERS = 8
ENGINES = ("threads", "forks", "pool", "loop")
PROCESSES = (1, 2, 4)

#: Seconds between two kills, and between two renewals.
KILL_SECONDS = 0.1
RENEW_SECONDS = 1.0

#: Seconds for a daemon to start, to stop, and to answer one request.
START_SECONDS = 30.0
STOP_SECONDS = 20.0
ANSWER_SECONDS = 15.0

#: The first thirty calls succeed, so that the database can be created; then every seventh fails.
FAILING_DISK = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync,fdatasync:error=EIO:when=30+7")


@dataclass(frozen=True)
class Round:
    """One combination of engine, processes and disk."""

    engine: str
    processes: int
    failing_disk: bool = False

    def __str__(self) -> str:
        disk = ", failing disk" if self.failing_disk else ""
        return f"{self.engine}, {self.processes} {'process' if self.processes == 1 else 'processes'}{disk}"


def rounds() -> list[Round]:
    """Return all combinations; that with a failing disk only if strace is installed."""
    found = [Round(engine, processes) for engine in ENGINES for processes in PROCESSES]
    if shutil.which("strace"):
        found.append(Round("pool", 2, failing_disk=True))
    return found


class Bank:
    """A webapp in a folder of its own.  `start` and `kill` may be called again and again."""

    def __init__(self, folder: Path, plan: Round) -> None:
        self._folder, self._plan = folder, plan
        self.port = free_ports(1)[0]
        (folder / "conf").mkdir()
        ini = f"[daemon]\nwsgi = daemons.webapp:Webapp\nport = {self.port}\n[limits]\ndrain_timeout = 2s\n"
        (folder / "conf" / "bank.ini").write_text(ini, "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon, and wait until it accepts.  Raise `PlaceError` if it does not."""
        tracer = FAILING_DISK if self._plan.failing_disk else ()
        words = ("run", "bank", "--engine", self._plan.engine, "--processes", str(self._plan.processes))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*tracer, str(BIN / "daemons"), *words],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if not until(self._accepts, START_SECONDS):
            raise PlaceError(f"{self._plan}: the daemon did not start; its log: {self.log[-2000:]}")

    def _accepts(self) -> bool:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)) as client:
                client.request("GET", "/")
                return client.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    @property
    def pid(self) -> int:
        """Process ID of the daemon, not of its tracer."""
        assert self._process is not None
        return children(self._process.pid)[0] if self._plan.failing_disk else self._process.pid

    @property
    def workers(self) -> list[int]:
        return children(self.pid)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text("utf-8", "replace")

    def renew(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGHUP)

    def kill(self) -> None:
        """Kill the daemon with its processes, and start it again."""
        assert self._process is not None
        for pid in [self.pid, *self.workers]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self.start()

    def stop(self) -> None:
        """End the daemon; if it does not end within `STOP_SECONDS`, kill it."""
        process, self._process = self._process, None
        if process is None:
            return
        pids = [process.pid, *children(process.pid)]
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(pids[-1] if self._plan.failing_disk else process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in reversed(pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def recorded(self) -> list[str]:
        """Return the memos of the payments of this test, in the order of the database."""
        with closing(sqlite3.connect(self._folder / "run" / "webapp.db")) as connection:
            found = connection.execute("SELECT memo FROM payment WHERE memo GLOB 'payment *' ORDER BY id")
            return [memo for (memo,) in found]


class Customer:
    """A client that is logged in as brandon, and pays until told to stop."""

    def __init__(self, port: int, name: str, history: History, stopped: threading.Event) -> None:
        self._port, self._name, self._history, self._stopped = port, name, history, stopped
        self._cookie = ""
        #: Set when the customer is logged in.
        self.ready = threading.Event()

    def run(self) -> None:
        turn = 0
        token = self._log_in()
        self.ready.set()
        while not self._stopped.is_set():
            memo = f"payment {self._name}.{turn}"
            turn += 1
            self._history.invoke(memo)
            status = self._try("POST", "/bank/pay", account="psf", dollars="1", memo=memo, token=token)[0]
            if status:
                self._history.answer(memo, acknowledged=status == 303)
            if status == 403:
                token = self._log_in()
            elif status != 303:
                self._stopped.wait(0.02)

    def _log_in(self) -> str:
        """Log in, as often as is necessary, and return the token for payments."""
        while not self._stopped.is_set():
            token = self._token("/bank/login")
            login = {"username": "brandon", "password": "atigdng", "token": token}
            if self._try("POST", "/bank/login", **login)[0] == 303 and (token := self._token("/bank/pay")):
                return token
            self._stopped.wait(0.1)
        return ""

    def _token(self, path: str) -> str:
        found = re.search('name="token" value="(.*?)"', self._try("GET", path)[1])
        return found[1] if found else ""

    def _try(self, method: str, path: str, **fields: str) -> tuple[int, str]:
        """Return the status and the body of the response; 0 if there is none."""
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)) as client:
                headers = {"Cookie": self._cookie, "Content-Type": "application/x-www-form-urlencoded"}
                client.request(method, path, urlencode(fields) if fields else None, headers)
                response = client.getresponse()
                body = response.read().decode()
                if given := response.headers["Set-Cookie"]:
                    self._cookie = given.partition(";")[0]
                return response.status, body
        except (OSError, http.client.HTTPException):
            return 0, ""


def play(plan: Round, seconds: float, rng: random.Random) -> tuple[History, list[str]]:
    """Run one round; return its history and the recorded payments."""
    history, stopped = History(), threading.Event()
    with _folder() as folder:
        bank = Bank(folder, plan)
        customers = [Customer(bank.port, str(number), history, stopped) for number in range(CUSTOMERS)]
        threads = [threading.Thread(target=customer.run) for customer in customers]
        try:
            bank.start()
            for thread in threads:
                thread.start()
            for customer in customers:
                customer.ready.wait(START_SECONDS)
            _disturb(bank, plan, seconds, rng, history)
        finally:
            stopped.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            bank.stop()
        return history, bank.recorded()


def _disturb(bank: Bank, plan: Round, seconds: float, rng: random.Random, history: History) -> None:
    """Renew and kill processes for `seconds`."""
    end = time.monotonic() + seconds
    renewal = time.monotonic() + RENEW_SECONDS
    while (now := time.monotonic()) < end:
        time.sleep(KILL_SECONDS)
        if now >= renewal:
            renewal = now + RENEW_SECONDS
            if plan.processes == 1 and not plan.failing_disk:
                history.crash("the daemon")
                bank.kill()
            bank.renew()
        if plan.processes > 1 and not plan.failing_disk and (workers := bank.workers):
            pid = rng.choice(workers)
            history.crash(f"worker {pid}")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp")).resolve()
    try:
        yield path
    finally:
        shutil.rmtree(path)


def play_all(plans: list[Round], seconds: float, seed: int) -> int:
    """Play the rounds, `seconds` each; return 0 if no promise was broken, else 1."""
    rng = random.Random(seed)
    print(f"soak payments: {len(plans)} rounds of {seconds:g} s, seed {seed}", flush=True)
    faults = 0
    for plan in plans:
        history, recorded = play(plan, seconds, rng)
        outcome = f"{history.acknowledged:6} acknowledged of {len(history.operations)}, {len(history.crashes)} kills"
        print(f"soak payments: {plan!s:32} {outcome}", flush=True)
        if violation := history.first_violation(recorded):
            print(f"FAULT  {plan}: {violation}", flush=True)
            faults += 1
        if not history.acknowledged:
            print(f"FAULT  {plan}: no payment was acknowledged", flush=True)
            faults += 1
    print(f"soak payments: {f'{faults} faults' if faults else 'no faults'}, seed {seed}")
    return 1 if faults else 0


def run(seconds: float, seed: int) -> int:
    """Play all rounds, `seconds` together."""
    plans = rounds()
    return play_all(plans, seconds / len(plans), seed)


def main(arguments: list[str]) -> int:
    """Play the rounds of one engine or all, with one number of processes or all."""
    parser = argparse.ArgumentParser(prog="python -m soak.payments", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--engine", choices=ENGINES, nargs="+", default=ENGINES)
    add("--processes", type=int, choices=PROCESSES, nargs="+", default=PROCESSES)
    add("--seconds", type=float, default=60.0, help="of each round (60)")
    add("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    plans = [plan for plan in rounds() if plan.engine in options.engine and plan.processes in options.processes]
    return play_all(plans, options.seconds, options.seed)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    sys.exit(main(sys.argv[1:]))
