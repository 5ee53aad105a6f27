"""Costs of password guessing.

No input of an allowed size costs more than 20 times an honest one of that size before it is refused; one peer cannot
delay others by guessing or logging in; guesses are limited; and no password is written to any file."""

from __future__ import annotations

import base64
import http.client
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from daemons.accounts import Accounts
from daemons.accounts.throttle import NAMED
from daemons.serving.conversation.peer import Peer
from daemons.web.site.protection import Realm
from daemons.webapp import Webapp
from tests.accounts.files import write_users
from tests.operating.folder import Folder
from tests.operating.live import Live
from tests.promises.crowds import MIB, growth
from tests.web.example_site import ask, make, service
from tests.webapp.visitor import Visitor as Browser

#: Times the cost of an honest input of the same size.
MOST = 20

#: Text whose Unicode normalization is slowest.
MARKS = "a" + "\u0301\u0323" * 3000

CANARY = "canary-4711"

PEER = Peer("127.0.0.1:4242", "127.0.0.1", False)


def seconds(act: Callable[[], object]) -> float:
    """Return the minimum CPU time of `act` over several calls, since other processes only add to it."""
    found = []
    for _ in range(15):
        before = time.process_time()
        act()
        found.append(time.process_time() - before)
    return min(found)


def basic(name: str, password: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


@pytest.mark.parametrize("where", ["name", "password"])
def test_basic_credentials_cost_no_more_than_honest_ones_of_their_size(tmp_path: Path, where: str) -> None:
    write_users(tmp_path / "users", arthur="x")
    httpd = service(make(tmp_path), protected={"/sub": Realm("The vault", str(tmp_path / "users"))})
    long = basic(MARKS, "x") if where == "name" else basic("arthur", MARKS)
    assert ask(httpd, "/sub/", long, peer=PEER).status == 401
    assert ask(httpd, "/sub/", basic("arthur", "x"), peer=PEER).status == 200
    honest = seconds(lambda: ask(httpd, "/sub/", basic("arthur", "x"), f"X-Padding: {'x' * len(long)}", peer=PEER))
    assert seconds(lambda: ask(httpd, "/sub/", long, peer=PEER)) < MOST * honest


def test_login_costs_no_more_than_an_honest_one_of_its_size(tmp_path: Path) -> None:
    write_users(tmp_path / "users", brandon="atigdng")
    key, database, users = (str(tmp_path / name) for name in ("key", "database", "users"))
    browser = Browser(Webapp(Webapp.Options(key=key, database=database, users=users)))
    token = browser.token("/bank/login")

    def log_in(status: int, **fields: str) -> None:
        browser.set_cookie("session", cookie, path="/bank/")
        assert browser.post("/bank/login", data={"token": token, **fields}).status_code == status

    found = browser.get_cookie("session", path="/bank/")
    assert found is not None
    cookie = found.value
    padding = "a" * len(MARKS.encode())
    honest = seconds(lambda: log_in(303, username="brandon", password="atigdng", padding=padding))
    assert seconds(lambda: log_in(422, username="brandon", password=MARKS)) < MOST * honest
    assert seconds(lambda: log_in(422, username=MARKS, password="atigdng")) < MOST * honest


def test_throttled_guess_costs_no_more_than_a_known_user(tmp_path: Path) -> None:
    write_users(tmp_path / "users", arthur="x")
    accounts = Accounts(str(tmp_path / "users"))
    accounts.check("arthur", "x", "::1")
    honest = seconds(lambda: [accounts.check("arthur", "x", "::1") for _ in range(50)])
    for number in range(50):
        accounts.check("arthur", str(number), "::1")
    assert seconds(lambda: [accounts.check("arthur", "\u0301" * 128, "::1") for _ in range(50)]) < MOST * honest


# --- running daemons -------------------------------------------------------------------------------


class Client:
    """HTTP client with one connection per request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cookie = ""

    def ask(self, method: str, path: str, *, authorization: str = "", **fields: str) -> tuple[int, str]:
        """Return the status and the body."""
        headers = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        if authorization:
            headers["Authorization"] = authorization.partition(": ")[2]
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as client:
            client.request(method, path, urlencode(fields) if fields else None, headers)
            response = client.getresponse()
            if given := response.headers["Set-Cookie"]:
                self.cookie = given.partition(";")[0]
            return response.status, response.read().decode()

    def log_in(self, name: str, password: str) -> int:
        """Return the status of the response to a login."""
        found = re.search('name="token" value="(.*?)"', self.ask("GET", "/bank/login")[1])
        assert found
        return self.ask("POST", "/bank/login", username=name, password=password, token=found[1])[0]


@contextmanager
def bank(folder: Folder, *arguments: str) -> Iterator[Live]:
    folder.write("x", "[daemon]\nwsgi = daemons.webapp:Webapp\nport = 0\n")
    with Live(folder.path, "x", *arguments) as daemon:
        yield daemon


def test_guesses_with_many_connections_take_the_memory_of_two_threads_and_hold_up_no_other_page(folder: Folder) -> None:
    with bank(folder, "--engine", "pool") as daemon, ThreadPoolExecutor(64) as guessers:
        assert Client(daemon.port).log_in("brandon", "atigdng") == 303
        with growth(daemon.process.pid, 64 * MIB):
            guesses = [guessers.submit(Client(daemon.port).log_in, str(number), "x") for number in range(64)]
            while not all(guess.done() for guess in guesses):
                assert Client(daemon.port).ask("GET", "/time/")[0] == 200
        statuses = Counter(guess.result() for guess in guesses)
        assert statuses.keys() <= {422, 503}
        assert statuses[422]
        # Guessing has not affected users whose credentials are cached.
        assert Client(daemon.port).log_in("brandon", "atigdng") == 303


@pytest.mark.parametrize("engine", ["threads", "forks", "pool", "loop"])
def test_guesses_are_limited_under_every_engine(folder: Folder, engine: str) -> None:
    with bank(folder, "--engine", engine) as daemon:
        begun = time.monotonic()
        statuses = Counter(Client(daemon.port).log_in("brandon", str(number)) for number in range(20))
        assert statuses.keys() <= {422, 503}
        assert statuses[422] <= NAMED.burst + 1 + (time.monotonic() - begun) / NAMED.interval


def test_login_under_loop_is_answered_once_it_is_known_and_never_refused(folder: Folder) -> None:
    with bank(folder, "--engine", "loop") as daemon:
        statuses = []
        deadline = time.monotonic() + 20
        while 303 not in statuses and time.monotonic() < deadline:
            statuses.append(Client(daemon.port).log_in("brandon", "atigdng"))
        assert set(statuses) == {503, 303}


def test_no_password_is_in_any_file_that_a_daemon_writes(folder: Folder) -> None:
    write_users(folder.path / "users", arthur=CANARY)
    (folder.path / "www").mkdir()
    (folder.path / "www" / "index.html").write_text("ok")
    folder.write(
        "site",
        "[daemon]\nservice = httpd\nport = 0\nengine = pool\n[httpd]\nroot = www\n[protected]\n/ = Vault users\n",
    )
    folder.write("calls", "[daemon]\njsonrpc = daemons.jsonrpc\nport = 0\nengine = pool\n[jsonrpc]\nusers = users\n")
    said = []
    for name in ("site", "calls"):
        with Live(folder.path, name) as daemon:
            for password, status in ((CANARY, 200), (f"wrong {CANARY}", 401), (f"{CANARY}" * 100, 401)):
                client = Client(daemon.port)
                assert client.ask("GET", "/", authorization=basic("arthur", password))[0] == status
            daemon.stop()  # flush the last lines
            said += [daemon.out, daemon.err]
    with bank(folder) as daemon:
        assert Client(daemon.port).log_in("brandon", CANARY) == 422
        daemon.stop()
        said += [daemon.out, daemon.err]
    assert "arthur" in "".join(said)
    assert CANARY not in "".join(said)
    for path in folder.path.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes(), path
