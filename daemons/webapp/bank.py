"""A bank: log in, see the payments that were made, make one.

Each form is posted, carries a token, and is followed by a redirect when it has done what it is for; one that has not is
shown again as it was filled in.  Nothing that is only fetched changes anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import Forbidden
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from daemons.accounts import ACCEPTED, BUSY, Accounts
from daemons.webapp import payments
from daemons.webapp.dispatch import Form, Pages
from daemons.webapp.rendering import render
from daemons.webapp.sessions import SESSION, Session

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from daemons.webapp.database import Database

#: Of what is typed, in characters: names, and what a payment is for.
LONGEST_NAME, LONGEST_MEMO = 40, 200

WRONG_LOGIN = "The user or the password is wrong."
BUSY_LOGIN = "Logins cannot be verified at the moment. Please send this again in {seconds} s."


class Bank:
    """The WSGI application.  Needs `Sessions` and `Authenticated` in front."""

    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts
        self._pages = Pages(
            {
                "/": {"GET": self._index},
                "/login": {"GET": self._login_form, "POST": self._login},
                "/logout": {"POST": self._logout},
                "/pay": {"GET": self._pay_form, "POST": self._pay},
            }
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """PEP 3333."""

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            # Nobody is to find it in a cache, or with the back button after a logout.
            return start_response(status, [*headers, ("Cache-Control", "no-store")], *exc_info)

        return self._pages(environ, start)

    # --- what is shown -----------------------------------------------------------------------------

    def _index(self, request: Form) -> Response:
        user = _user(request)
        if user is None:
            return _to(request, "login")
        with self._database.read() as connection:
            found = payments.of(connection, user)
        session = _session(request)
        return render(
            request, "bank/index.html", user=user, payments=found, flashes=session.flashes(), token=session.token
        )

    def _login_form(self, request: Form) -> Response:
        return self._show_login(request)

    def _show_login(self, request: Form, status: int = 200, username: str = "", complaint: str = "") -> Response:
        token = _session(request).token
        complaints = {"username": "", "password": complaint} if complaint else {}
        shown = {"values": {"username": username}, "complaints": complaints, "token": token}
        return render(request, "bank/login.html", status, user=None, **shown)

    def _pay_form(self, request: Form) -> Response:
        if _user(request) is None:
            return _to(request, "login")
        return self._show_pay(request, {}, {})

    def _show_pay(
        self, request: Form, values: Mapping[str, str], complaints: Mapping[str, str], status: int = 200
    ) -> Response:
        token = _session(request).token
        shown = {"values": values, "complaints": complaints, "token": token}
        return render(request, "bank/pay.html", status, user=_user(request), **shown)

    # --- what is done ------------------------------------------------------------------------------

    def _login(self, request: Form) -> Response:
        _check_token(request)
        username, password = request.form.get("username", ""), request.form.get("password", "")
        # The users file is there by now: it is made with the database, in which the session has been looked up.
        verdict = self._accounts.check(username, password, request.remote_addr or "unix")
        if verdict.outcome is BUSY:
            complaint = BUSY_LOGIN.format(seconds=verdict.retry_after)
            response = self._show_login(request, 503, username[:LONGEST_NAME], complaint)
            response.headers["Retry-After"] = str(verdict.retry_after)
            return response
        if verdict.outcome is not ACCEPTED:
            return self._show_login(request, 422, username[:LONGEST_NAME], WRONG_LOGIN)
        _session(request).log_in(verdict.user)
        return _to(request, "")

    def _logout(self, request: Form) -> Response:
        _check_token(request)
        _session(request).log_out()
        return _to(request, "login")

    def _pay(self, request: Form) -> Response:
        _check_token(request)
        user = _user(request)
        if user is None:
            return _to(request, "login")
        values = {name: request.form.get(name, "").strip() for name in ("account", "dollars", "memo")}
        complaints = wrong_with(values)
        if complaints:
            return self._show_pay(request, values, complaints, 422)
        with self._database.write() as connection:
            payments.add(connection, user, values["account"], _amount(values["dollars"]), values["memo"])
        _session(request).flash("Payment successful")
        return _to(request, "")


def wrong_with(values: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with a payment, by field."""
    complaints = {name: "Please fill in all three fields" for name, value in values.items() if not value}
    if "dollars" not in complaints:
        if not re.fullmatch(r"[0-9]+", values["dollars"]):
            complaints["dollars"] = "Dollars must be an integer"
        elif not re.fullmatch(r"0*[1-9][0-9]{0,5}", values["dollars"]):
            complaints["dollars"] = "Dollars must be from 1 to 999999"
    for name, longest in (("account", LONGEST_NAME), ("memo", LONGEST_MEMO)):
        if len(values[name]) > longest:
            complaints[name] = f"No more than {longest} characters, please"
    for name in ("account", "memo"):
        if name not in complaints and not values[name].isprintable():
            complaints[name] = "Letters, digits and marks alone, please"
    return complaints


def _amount(dollars: str) -> int:
    """Return the number in a field that `wrong_with` accepts.  int() refuses more than 4300 digits, and counts zeros
    before the first other digit."""
    return int(dollars.lstrip("0"))


def _user(request: Form) -> str | None:
    """Who `Authenticated` says it is."""
    return request.environ.get("REMOTE_USER")


def _session(request: Form) -> Session:
    session = request.environ[SESSION]
    assert isinstance(session, Session)
    return session


def _check_token(request: Form) -> None:
    """Of the form's fields alone: what stands in the URL is no part of a form that is posted."""
    if not _session(request).gave(request.form.get("token", "")):
        raise Forbidden(
            "This form was given to somebody else, or long ago. Load its page again and send it from there."
        )


def _to(request: Form, page: str) -> Response:
    """303, which is always fetched with GET: to load the page again does not post the form again."""
    response = redirect(f"{request.root_path}/{page}", 303)
    assert isinstance(response, Response)
    return response
