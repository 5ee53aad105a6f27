"""The site over a real socket, with a third-party client."""

from __future__ import annotations

import http.client
import json
import re
import xmlrpc.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import Any
from urllib.parse import urlencode
from wsgiref.validate import validator

import pytest

from daemons.accounts import hashes, verifier
from daemons.serving.engines import stream_server
from daemons.serving.pump import Pump
from daemons.web.handlers.server import WebServer
from daemons.web.wsgi.service import WSGIService
from daemons.webapp import Webapp
from tests.operating.live import until
from tests.serving.running import Within, access_of

FORM = "application/x-www-form-urlencoded"


def test_a_payment_from_login_to_logout_on_one_connection(site: Callable[..., Webapp]) -> None:
    pump = Pump.for_service(WSGIService.of(validator(site()), "Webapp")())
    with closing(Within(stream_server("pool", WebServer), pump)) as server:
        address: Any = server.address
        with closing(http.client.HTTPConnection(address[0], address[1], timeout=20)) as client:
            client.connect()
            name = "{}:{}".format(*client.sock.getsockname())
            cookie = ""

            def ask(method: str, path: str, media: str = FORM, body: Any = None, **fields: str) -> tuple[int, str, str]:
                nonlocal cookie
                headers = {"Content-Type": media, "Cookie": cookie} if method == "POST" else {"Cookie": cookie}
                client.request(method, path, body or urlencode(fields), headers)
                answer = client.getresponse()
                if given := answer.headers["Set-Cookie"]:
                    cookie = given.partition(";")[0]
                return answer.status, answer.headers.get("Location", ""), answer.read().decode()

            def token(path: str) -> str:
                found = re.search('name="token" value="(.*?)"', ask("GET", path)[2])
                assert found
                return found[1]

            login = {"username": "sam", "password": "xyzzy", "token": token("/bank/login")}
            assert ask("POST", "/bank/login", **login)[:2] == (303, "/bank/")
            payment = {"account": "liz", "dollars": "7", "memo": "Tea", "token": token("/bank/pay")}
            assert ask("POST", "/bank/pay", **payment)[:2] == (303, "/bank/")
            assert "Payment successful" in ask("GET", "/bank/")[2]
            assert ask("POST", "/bank/logout", token=token("/bank/"))[:2] == (303, "/bank/login")
            assert ask("POST", "/bank/pay", **payment)[0] == 403
            assert "<td>Fair</td>" in ask("POST", "/zipcity.php", inputstring="Phoenix, AZ")[2]
            asked = json.dumps({"mystring": "a"})
            answer = ask("POST", "/api/base64", "application/json", asked)
            assert (answer[0], json.loads(answer[2])["base64"]) == (200, "YQ==")
            assert ask("GET", "/static/style.css")[0] == 200
            assert ask("HEAD", "/static/castle.svg")[2] == ""
        assert access_of(server, name) == ("done", "12")
        server.expect_no_connections()


def test_calls_are_answered_beneath_the_site(site: Callable[..., Webapp]) -> None:
    pump = Pump.for_service(WSGIService.of(validator(site()), "Webapp")())
    with closing(Within(stream_server("pool", WebServer), pump)) as server:
        address: Any = server.address
        host, port = address
        for path in ("/rpc", "/rpc/"):
            with xmlrpc.client.ServerProxy(f"http://{host}:{port}{path}") as proxy:
                assert proxy.addtogether("a", "bc") == "abc"
                assert "quadratic" in proxy.system.listMethods()  # type: ignore[operator]
        with closing(http.client.HTTPConnection(host, port, timeout=20)) as client:
            call = {"jsonrpc": "2.0", "method": "addtogether", "params": [1, 2, 3], "id": 7}
            client.request("POST", "/jsonrpc", json.dumps(call), {"Content-Type": "application/json"})
            assert json.load(client.getresponse()) == {"jsonrpc": "2.0", "result": 6, "id": 7}
            client.request("GET", "/rpc/")
            page = client.getresponse()
            assert page.status == 200
            assert b"Determine x values satisfying" in page.read()
        # Earlier, a worker may not have closed the application's iterable yet.
        server.expect_no_connections()


@pytest.mark.parametrize("engine", ["pool", "threads"])
def test_pages_are_served_while_logins_wait_and_excess_logins_get_503(
    site: Callable[..., Webapp], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    free = Event()
    scrypt = hashes._scrypt

    def held(*arguments: Any) -> bytes:
        assert free.wait(30)
        return scrypt(*arguments)

    monkeypatch.setattr(hashes, "_scrypt", held)
    pump = Pump.for_service(WSGIService.of(site(), "Webapp")())
    with closing(Within(stream_server(engine, WebServer), pump)) as server, ThreadPoolExecutor(200) as guessers:
        address: Any = server.address

        def ask(method: str, path: str, **fields: str) -> tuple[int, Any, str]:
            with closing(http.client.HTTPConnection(address[0], address[1], timeout=30)) as client:
                headers = {"Content-Type": FORM, "Cookie": cookie}
                client.request(method, path, urlencode(fields) if fields else None, headers)
                response = client.getresponse()
                return response.status, response.headers, response.read().decode()

        cookie = ""
        _, headers, page = ask("GET", "/bank/login")
        cookie = headers["Set-Cookie"].partition(";")[0]
        token = re.search('name="token" value="(.*?)"', page)[1]  # type: ignore[index]
        try:
            logins = [
                guessers.submit(ask, "POST", "/bank/login", username=str(number), password="x", token=token)
                for number in range(200)
            ]
            most = verifier.TASKS_PER_NETWORK
            until(lambda: sum(login.done() for login in logins) == 200 - most, "the logins that need not wait")
            told = [login.result() for login in logins if login.done()]
            assert {(status, headers["Retry-After"]) for status, headers, _ in told} == {(503, "1")}
            assert [ask("GET", path)[0] for path in ("/time/", "/bank/login", "/") * 5] == [200] * 15
        finally:
            free.set()
        assert sorted(login.result()[0] for login in logins) == [422] * most + [503] * (200 - most)
