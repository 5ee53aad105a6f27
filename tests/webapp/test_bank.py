"""The bank: forms that change data, and forged forms."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemons.accounts import accounts
from daemons.accounts.hashes import generate_secret
from daemons.accounts.throttle import NAMED, PEER
from daemons.webapp import Webapp
from daemons.webapp.sessions import CLOCK_STEP, MOST
from tests.accounts.files import write_lines, write_users
from tests.webapp.visitor import Visitor

#: Payments that the book's scraper finds in brandon's account.
BRANDON = [
    ("to", 125, "Registration for PyCon"),
    ("to", 200, "Payment for writing that code"),
    ("from", 25, "Gas money-thanks for the ride!"),
]

GOOD = {"account": "psf", "dollars": "12", "memo": "Lunch"}


@pytest.fixture
def brandon(visitor: Visitor) -> Visitor:
    """Return a logged-in client."""
    assert visitor.log_in().status_code == 303
    return visitor


def value_of(visitor: Visitor) -> str:
    cookie = visitor.get_cookie("session", path="/bank/")
    assert cookie is not None
    return cookie.value


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "run" / "webapp.db")) as connection:
        return connection.execute(query).fetchall()


# --- logging in ------------------------------------------------------------------------------------


def test_anonymous_client_is_redirected_to_the_login(visitor: Visitor) -> None:
    for page in ("", "pay"):
        answer = visitor.get(f"/bank/{page}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/bank/login")
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_login_shows_the_payments_as_the_book_has_them(brandon: Visitor) -> None:
    assert brandon.payments() == BRANDON
    assert sum(dollars for way, dollars, _ in brandon.payments() if way == "to") == 325
    assert "Welcome, brandon" in brandon.get("/bank/").text


@pytest.mark.parametrize(
    ("user", "password"),
    [("brandon", "xyzzy"), ("sam", ""), ("stranger", "atigdng"), ("' OR 1=1 --", "x"), ("<b>\0\ud800", "x")],
)
def test_a_wrong_login_shows_the_form_again_filled_in_and_marked(visitor: Visitor, user: str, password: str) -> None:
    fields = {"username": user.encode("utf-8", "surrogatepass"), "password": password}
    answer = visitor.post("/bank/login", data={**fields, "token": visitor.token("/bank/login")})
    assert answer.status_code == 422
    name, secret = re.findall(r"<input id=.*?>", answer.text, re.DOTALL)
    assert 'class="complaint" aria-invalid="true"' in name
    assert 'class="complaint" aria-invalid="true"' in secret
    assert 'value=""' in secret
    if user.isalpha():
        assert f'value="{user}"' in name
    assert "<b>" not in answer.text
    assert visitor.get("/bank/").status_code == 303


def test_passwords_are_kept_hashed(brandon: Visitor, tmp_path: Path) -> None:
    for name in ("webapp.db", "webapp.users"):
        path = tmp_path / "run" / name
        assert path.stat().st_mode & 0o777 == 0o600
        for octets in (b"atigdng", b"xyzzy", value_of(brandon).encode()):
            assert octets not in path.read_bytes()


# --- the session's cookie --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "secure", "expected"),
    [("http://localhost", False, False), ("https://localhost", False, True), ("http://localhost", True, True)],
)
def test_attributes_of_the_cookie(site: Callable[..., Webapp], base_url: str, secure: bool, expected: bool) -> None:
    answer = Visitor(site(secure=secure)).get("/bank/login", base_url=base_url)
    (cookie,) = answer.headers.getlist("Set-Cookie")
    _, *words = cookie.split("; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/bank/", "Max-Age=43200"} <= set(words)
    assert ("Secure" in words) == expected


def test_nothing_else_of_the_site_gives_or_is_sent_a_cookie(brandon: Visitor) -> None:
    for page in ("/", "/base64/", "/bottle/", "/weather", "/static/style.css"):
        answer = brandon.get(page)
        assert "Set-Cookie" not in answer.headers
        assert "HTTP_COOKIE" not in answer.request.environ


def test_login_changes_the_session_id_and_the_old_one_stays_anonymous(visitor: Visitor) -> None:
    visitor.get("/bank/login")
    before = value_of(visitor)
    visitor.log_in()
    assert value_of(visitor) != before
    visitor.set_cookie("session", before, path="/bank/")
    assert visitor.get("/bank/").status_code == 303


@pytest.mark.parametrize(
    "spoilt",
    [
        # Not the last letter: of that, some bits stand for nothing.
        lambda good: good[:-9] + ("A" if good[-9] != "A" else "B") + good[-8:],
        lambda good: "A" + good[1:],
        lambda good: good.rpartition(".")[0],
        lambda good: "",
        lambda good: "brandon",
        lambda good: "\xff" * 400,
        lambda good: "." + good,
    ],
    ids=["signature", "content", "unsigned", "none", "a name", "noise", "compressed"],
)
def test_forged_or_modified_cookie_is_ignored(brandon: Visitor, spoilt: Callable[[str], str]) -> None:
    good = value_of(brandon)
    brandon.set_cookie("session", spoilt(good), path="/bank/")
    assert brandon.get("/bank/").status_code == 303
    brandon.set_cookie("session", good, path="/bank/")
    assert brandon.get("/bank/").status_code == 200


def test_logout_invalidates_copies_of_the_cookie(brandon: Visitor) -> None:
    stolen = value_of(brandon)
    token = brandon.token("/bank/")
    assert brandon.get("/bank/logout").status_code == 405
    assert brandon.post("/bank/logout").status_code == 403
    assert brandon.get("/bank/").status_code == 200
    assert brandon.post("/bank/logout", data={"token": token}).status_code == 303
    assert brandon.get("/bank/").status_code == 303
    brandon.set_cookie("session", stolen, path="/bank/")
    assert brandon.get("/bank/").status_code == 303


def test_a_login_ends_by_itself(site: Callable[..., Webapp], monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Visitor(site(session=60.0))
    visitor.log_in()
    cookie = value_of(visitor)
    now = time.time()
    for later, status in ((50, 200), (70, 303)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        visitor.set_cookie("session", cookie, path="/bank/")
        assert visitor.get("/bank/").status_code == status


def test_sessions_survive_a_clock_that_is_set_back(
    site: Callable[..., Webapp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cookie, session and token remain valid; those from far in the future are refused."""
    visitor = Visitor(site(session=60.0))
    visitor.log_in()
    now = time.time()
    for earlier in (1, CLOCK_STEP - 1):
        monkeypatch.setattr(time, "time", lambda earlier=earlier: now - earlier)
        assert visitor.get("/bank/").status_code == 200
        assert visitor.post("/bank/pay", data={**GOOD, "token": visitor.token("/bank/pay")}).status_code == 303
    visitor.get("/bank/")
    cookie = value_of(visitor)
    monkeypatch.setattr(time, "time", lambda: now - 2 * CLOCK_STEP - 100)
    visitor.set_cookie("session", cookie, path="/bank/")
    assert visitor.get("/bank/").status_code == 303


def test_session_made_after_the_clock_was_set_back_is_not_the_oldest(
    brandon: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(MOST):
        brandon.delete_cookie("session", path="/bank/")
        brandon.log_in()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 100)
    brandon.delete_cookie("session", path="/bank/")
    brandon.log_in()
    assert brandon.get("/bank/").status_code == 200


def test_logins_of_one_user_are_bounded(brandon: Visitor, tmp_path: Path) -> None:
    for _ in range(MOST + 2):
        brandon.delete_cookie("session", path="/bank/")
        brandon.log_in()
    assert rows(tmp_path, "SELECT count(*), user FROM session") == [(MOST, "brandon")]
    assert brandon.get("/bank/").status_code == 200


def test_too_many_logins_get_retry_after(visitor: Visitor) -> None:
    answers = [visitor.log_in("sam", str(number)) for number in range(NAMED.burst + 1)]
    assert [each.status_code for each in answers] == [422] * NAMED.burst + [503]
    seconds = answers[-1].headers["Retry-After"]
    assert 1 <= int(seconds) <= NAMED.interval
    assert f"Please send this again in {seconds} s." in answers[-1].text
    assert 'value="sam"' in answers[-1].text
    assert visitor.log_in().status_code == 303


def test_guesser_behind_a_proxy_does_not_lock_out_other_clients(site: Callable[..., Webapp], tmp_path: Path) -> None:
    application = site(proxies=("127.0.0.1",))
    # Of a secret the hash is fast, so that only the throttle of each peer counts.
    secret, stored = generate_secret()
    write_lines(tmp_path / "run" / "webapp.users", f"sam:{stored}")

    def log_in(user: str, password: str, peer: str) -> int:
        visitor = Visitor(application)
        fields = {"username": user, "password": password, "token": visitor.token("/bank/login")}
        more: Any = {"headers": {"X-Forwarded-For": peer}, "environ_overrides": {"REMOTE_ADDR": "127.0.0.1"}}
        return visitor.post("/bank/login", data=fields, **more).status_code

    guesses = [log_in(f"user{number}", "guess", f"192.0.2.{number}, 198.51.100.7") for number in range(3 * PEER.burst)]
    assert guesses.count(503) > PEER.burst
    assert log_in("sam", secret, "198.51.100.8") == 303


def test_user_whose_line_is_taken_out_is_logged_out_and_cannot_log_in(
    visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "NOTICED", 0.0)
    assert visitor.log_in("sam", "xyzzy").status_code == 303
    assert visitor.get("/bank/").status_code == 200
    write_users(tmp_path / "run" / "webapp.users", brandon="atigdng")
    assert visitor.get("/bank/").headers["Location"] == "/bank/login"
    assert visitor.log_in("sam", "xyzzy").status_code == 422
    (tmp_path / "run" / "webapp.users").unlink()
    assert visitor.log_in("sam", "xyzzy").status_code == 503


def test_changed_password_ends_earlier_sessions(
    visitor: Visitor, site: Callable[..., Webapp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "NOTICED", 0.0)
    assert visitor.log_in("sam", "xyzzy").status_code == 303
    users = tmp_path / "run" / "webapp.users"
    with users.open("a") as file:
        file.write("# a comment changes no password\n")
    assert visitor.get("/bank/").status_code == 200
    # Another process shares the secret and the files, so the session is valid there, too.
    other = Visitor(site())
    cookie = visitor.get_cookie("session", path="/bank/")
    assert cookie is not None
    other.set_cookie("session", cookie.value, path="/bank/")
    assert other.get("/bank/").status_code == 200
    write_users(users, sam="plugh")
    for each in (visitor, other):
        assert each.get("/bank/").headers["Location"] == "/bank/login"
    assert visitor.log_in("sam", "xyzzy").status_code == 422
    assert visitor.log_in("sam", "plugh").status_code == 303
    assert visitor.get("/bank/").status_code == 200
    assert other.get("/bank/").headers["Location"] == "/bank/login"


# --- paying ----------------------------------------------------------------------------------------


def test_valid_payment_redirects_and_is_confirmed_once(brandon: Visitor) -> None:
    answer = brandon.post("/bank/pay", data={**GOOD, "token": brandon.token("/bank/pay")})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/bank/")
    assert "Payment successful" in brandon.get("/bank/").text
    assert "Payment successful" not in brandon.get("/bank/").text
    assert brandon.payments() == [*BRANDON, ("to", 12, "Lunch")]


def test_amount_with_thousands_of_leading_zeros_is_paid(brandon: Visitor) -> None:
    fields = {**GOOD, "dollars": "0" * 5000 + "12", "token": brandon.token("/bank/pay")}
    assert brandon.post("/bank/pay", data=fields).status_code == 303
    assert brandon.payments() == [*BRANDON, ("to", 12, "Lunch")]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"dollars": "lots"}, {"dollars": "Dollars must be an integer"}),
        ({"dollars": "-5"}, {"dollars": "Dollars must be an integer"}),
        ({"dollars": "²"}, {"dollars": "Dollars must be an integer"}),
        ({"dollars": "9" * 5000}, {"dollars": "Dollars must be from 1 to 999999"}),
        ({"dollars": "0"}, {"dollars": "Dollars must be from 1 to 999999"}),
        ({"account": " "}, {"account": "Please fill in all three fields"}),
        (dict.fromkeys(GOOD, ""), dict.fromkeys(GOOD, "Please fill in all three fields")),
        ({"memo": "m" * 201}, {"memo": "No more than 200 characters, please"}),
        ({"account": "a\0b"}, {"account": "Control characters are not allowed"}),
    ],
)
def test_a_bad_one_is_shown_again_filled_in_and_marked(
    brandon: Visitor, fields: dict[str, str], wrong: dict[str, str]
) -> None:
    sent = {**GOOD, **fields}
    answer = brandon.post("/bank/pay", data={**sent, "token": brandon.token("/bank/pay")})
    assert answer.status_code == 422
    inputs = dict(re.findall(r'<input id="(\w+)"(.*?)>', answer.text, re.DOTALL))
    assert inputs.keys() == GOOD.keys()
    for name, text in inputs.items():
        assert f'value="{sent[name].strip()}"' in text
        assert ('class="complaint" aria-invalid="true"' in text) == (name in wrong)
    told = dict(re.findall(r'<span class="complaint" id="(\w+)-complaint">(.*?)</span>', answer.text))
    assert told == wrong
    assert brandon.payments() == BRANDON


def test_input_is_escaped_on_every_page(brandon: Visitor) -> None:
    script = "<script>alert('\"')</script>"
    token = brandon.token("/bank/pay")
    again = brandon.post("/bank/pay", data={"account": script, "dollars": script, "memo": script, "token": token})
    brandon.post("/bank/pay", data={"account": script, "dollars": "1", "memo": script, "token": token})
    for page in (again.text, brandon.get("/bank/").text):
        assert "<script" not in page
        assert "&lt;script&gt;alert(&#39;&#34;&#39;)" in page
    assert brandon.get("/bank/").headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("token", [None, "", "0" * 64, "\xff"])
def test_a_form_of_another_site_pays_nothing(brandon: Visitor, token: str | None) -> None:
    """CSRF: a form without a valid token, sent by the browser of a logged-in user."""
    fields = {"account": "hacker", "dollars": "110", "memo": "Theft"}
    answer = brandon.post("/bank/pay", data=fields if token is None else {**fields, "token": token})
    assert answer.status_code == 403
    assert "hacker" not in answer.text
    assert brandon.payments() == BRANDON


def test_a_token_is_good_in_its_own_session_alone_and_in_the_form_alone(brandon: Visitor, site: Any) -> None:
    other = Visitor(site())
    other.log_in("sam", "xyzzy")
    answer = brandon.post("/bank/pay", data={**GOOD, "token": other.token("/bank/pay")})
    assert answer.status_code == 403
    token = brandon.token("/bank/pay")
    answer = brandon.post("/bank/pay", query_string={**GOOD, "token": token})
    assert answer.status_code == 403
    answer = brandon.get("/bank/pay", query_string={**GOOD, "token": token})
    assert answer.status_code == 200
    assert 'value="psf"' not in answer.text
    assert brandon.payments() == BRANDON
    assert other.payments() == [("to", 25, "Gas money-thanks for the ride!")]


def test_a_login_of_another_site_is_refused(visitor: Visitor) -> None:
    answer = visitor.post("/bank/login", data={"username": "sam", "password": "xyzzy"})
    assert answer.status_code == 403
    assert visitor.get("/bank/").status_code == 303
