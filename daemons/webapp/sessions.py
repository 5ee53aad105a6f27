"""Sessions, identified by a cookie.

The cookie holds a random id and the pending flash messages, and is signed: a forged or modified cookie is ignored.  The
logged-in user is stored in the database under the id, so a logout invalidates all copies of the cookie.  Anonymous
sessions need no row in the database.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.http import dump_cookie
from werkzeug.wrappers import Request, Response

from daemons.webapp.database import DatabaseBusy

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from daemons.webapp.database import Database
    from daemons.webapp.secret import Secret

#: Key of the session in the environ.
SESSION = "daemons.webapp.session"

COOKIE = "session"

#: Maximum number of logins of one user; the oldest is deleted.
MOST = 20

#: Seconds that the clock may be set back, for example by NTP: signatures and rows with a time that far in the future
#: remain valid.
CLOCK_STEP = 3600.0

#: Maximum number of pending flash messages: browsers limit a cookie to 4 KiB.
MOST_FLASHES = 5


class Session:
    """The session of one client, loaded when needed.  If `changed`, the response must set the cookie."""

    def __init__(self, cookie: str, secret: Secret, database: Database, lifetime: float) -> None:
        self._secret = secret
        self._database = database
        self._lifetime = lifetime
        self._serializer = URLSafeTimedSerializer(
            secret.value(), "daemons.webapp.session", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self.changed = False
        self._id, self._flashes, self._mark = self._loaded(cookie)
        self._user: str | None = None
        self._user_is_known = not self._id

    def _loaded(self, cookie: str) -> tuple[str, list[str], str]:
        try:
            # Without max_age, which refuses times in the future.
            found, signed = self._serializer.loads(cookie, return_timestamp=True)
            if not -CLOCK_STEP <= time.time() - signed.timestamp() < self._lifetime:
                return "", [], ""
            return str(found["id"]), [str(text) for text in found["flashes"]], str(found["mark"])
        except (BadData, LookupError, TypeError, ValueError):
            return "", [], ""

    def dumped(self) -> str:
        """Return the value of the cookie."""
        return self._serializer.dumps({"id": self._id, "flashes": self._flashes, "mark": self._mark})

    # --- user --------------------------------------------------------------------------------------

    @property
    def user(self) -> str | None:
        """The logged-in user, or None."""
        if not self._user_is_known:
            now = time.time()
            with self._database.read() as connection:
                query = "SELECT user FROM session WHERE id = ? AND until > ? AND until <= ?"
                row = connection.execute(query, (self._stored_id, now, now + self._lifetime + CLOCK_STEP)).fetchone()
            self._user = None if row is None else row[0]
            self._user_is_known = True
        return self._user

    @property
    def _stored_id(self) -> str:
        """The hash of the id, as in the database."""
        return hashlib.sha256(self._id.encode()).hexdigest()

    def _renew(self, user: str | None) -> None:
        """Change the id, which prevents session fixation, and set the user."""
        self._id = secrets.token_urlsafe(32)
        self._user, self._user_is_known = user, True
        self._mark = ""
        self.changed = True

    def log_in(self, user: str, stored: str) -> None:
        """Log in as `user`, whose password has the hash `stored`, under a new id."""
        old, now = self._stored_id, time.time()
        self._renew(user)
        self._mark = self._mark_of(stored)
        with self._database.write() as connection:
            connection.execute("DELETE FROM session WHERE id = ? OR until <= ?", (old, now))
            connection.execute("INSERT INTO session VALUES (?, ?, ?)", (self._stored_id, user, now + self._lifetime))
            # By insertion order, which does not depend on the clock.
            newest = "SELECT id FROM session WHERE user = ? ORDER BY rowid DESC LIMIT ?"
            connection.execute(f"DELETE FROM session WHERE user = ? AND id NOT IN ({newest})", (user, user, MOST))

    def is_current(self, stored: str) -> bool:
        """Return whether the user's password still is the one of the login; `stored` is its hash, empty for an unknown
        user."""
        return bool(stored) and hmac.compare_digest(
            self._mark_of(stored).encode(), self._mark.encode("utf-8", "replace")
        )

    def _mark_of(self, stored: str) -> str:
        return self._secret.derived("password", stored)

    def log_out(self) -> None:
        """Log out, and invalidate the old id."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM session WHERE id = ?", (self._stored_id,))
        self._renew(None)

    # --- CSRF token --------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """The CSRF token of this session's forms."""
        if not self._id:
            self._renew(None)
        return self._secret.derived("form", self._id)

    def owns(self, token: str) -> bool:
        """Return whether `token` is this session's."""
        return bool(self._id) and hmac.compare_digest(self.token.encode(), token.encode("utf-8", "replace"))

    # --- flash messages ----------------------------------------------------------------------------

    def flash(self, text: str) -> None:
        """Add a message for the next page."""
        if not self._id:
            self._renew(None)
        self._flashes = [*self._flashes, text][-MOST_FLASHES:]
        self.changed = True

    def flashes(self) -> list[str]:
        """Return the pending messages and remove them."""
        found, self._flashes = self._flashes, []
        self.changed = self.changed or bool(found)
        return found


class Sessions:
    """Middleware that puts the client's `Session` into the environ and sets its cookie.  The cookie's path is the mount
    point of the application, so browsers do not send it for other parts of the site."""

    def __init__(
        self, application: WSGIApplication, secret: Secret, database: Database, lifetime: float, secure: bool = False
    ) -> None:
        self._application = application
        self._secret = secret
        self._database = database
        self._lifetime = max(1.0, lifetime)  # Max-Age has a resolution of one second
        self._secure = secure

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        session = Session(request.cookies.get(COOKIE, ""), self._secret, self._database, self._lifetime)
        environ[SESSION] = session

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            if session.changed:
                headers = [*headers, ("Set-Cookie", self._cookie(session, request))]
            return start_response(status, headers, *exc_info)

        try:
            return self._application(environ, start)
        except DatabaseBusy:
            text = "503 Service Unavailable: the database is busy, and nothing has been changed.\n"
            response: Any = Response(text, 503, {"Retry-After": "1"}, "text/plain")
            return response(environ, start_response)  # type: ignore[no-any-return]

    def _cookie(self, session: Session, request: Request) -> str:
        return dump_cookie(
            COOKIE,
            session.dumped(),
            max_age=int(self._lifetime),
            path=f"{request.root_path}/",
            secure=self._secure or request.scheme == "https",
            httponly=True,
            samesite="Lax",
        )
