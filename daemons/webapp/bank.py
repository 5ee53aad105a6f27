"""A bank: log in, list payments, and make one.

Forms are sent by POST with a CSRF token.  A successful form is followed by a redirect; an invalid one is shown again as
it was filled in.  GET requests change nothing.
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

#: Maximum characters of a name, and of a memo.
LONGEST_NAME, LONGEST_MEMO = 40, 200

WRONG_LOGIN = "The user or the password is wrong."
BUSY_LOGIN = "Logins cannot be verified at the moment. Please send this again in {seconds} s."


class Bank:
    """The WSGI application.  Requires the middleware `Sessions` and `Authenticated`."""

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
            # Keep pages out of caches and out of the browser's history after a logout.
            return start_response(status, [*headers, ("Cache-Control", "no-store")], *exc_info)

        return self._pages(environ, start)

    # --- pages -------------------------------------------------------------------------------------

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

    # --- actions -----------------------------------------------------------------------------------

    def _login(self, request: Form) -> Response:
        _check_token(request)
        username, password = request.form.get("username", ""), request.form.get("password", "")
        # The users file exists by now: it is created with the database, which the session lookup has opened.
        # Read before the check: a password that is changed meanwhile ends the session.
        stored = self._accounts.stored(username, fresh=True)
        verdict = self._accounts.check(username, password, request.remote_addr or "unix")
        if verdict.outcome is BUSY:
            complaint = BUSY_LOGIN.format(seconds=verdict.retry_after)
            response = self._show_login(request, 503, username[:LONGEST_NAME], complaint)
            response.headers["Retry-After"] = str(verdict.retry_after)
            return response
        if verdict.outcome is not ACCEPTED:
            return self._show_login(request, 422, username[:LONGEST_NAME], WRONG_LOGIN)
        _session(request).log_in(verdict.user, stored)
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
        complaints = field_errors(values)
        if complaints:
            return self._show_pay(request, values, complaints, 422)
        with self._database.write() as connection:
            payments.add(connection, user, values["account"], _amount(values["dollars"]), values["memo"])
        _session(request).flash("Payment successful")
        return _to(request, "")


def field_errors(values: Mapping[str, str]) -> dict[str, str]:
    """Return the error of each invalid field of a payment."""
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
            complaints[name] = "Control characters are not allowed"
    return complaints


def _amount(dollars: str) -> int:
    """Return the number in a field that `field_errors` accepts.  int() refuses more than 4300 digits, including leading
    zeros."""
    return int(dollars.lstrip("0"))


def _user(request: Form) -> str | None:
    """Return the user name set by `Authenticated`."""
    return request.environ.get("REMOTE_USER")


def _session(request: Form) -> Session:
    session = request.environ[SESSION]
    assert isinstance(session, Session)
    return session


def _check_token(request: Form) -> None:
    """Raise `Forbidden` unless the form has the session's token.  A token in the URL is ignored."""
    if not _session(request).owns(request.form.get("token", "")):
        raise Forbidden("This form was created for another session or has expired. Reload its page and send it again.")


def _to(request: Form, page: str) -> Response:
    """Return a 303 redirect, which browsers follow with GET: reloading the page does not send the form again."""
    response = redirect(f"{request.root_path}/{page}", 303)
    assert isinstance(response, Response)
    return response
