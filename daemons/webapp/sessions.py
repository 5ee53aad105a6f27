"""Sessions: who comes back, by a cookie.

The cookie holds a random id and what is to be told on the next page, signed: what is forged or tampered with is as if
it were not there.  Who has logged in is kept in the database, by the id; so a logout holds, whoever has a copy of the
cookie.  Somebody who has not logged in costs no row.
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

#: Where in the environ the session is.
SESSION = "daemons.webapp.session"

COOKIE = "session"

#: Logins of one user at a time; the oldest is forgotten.
MOST = 20

#: Seconds that the clock may be set back, as by NTP: what was signed or kept before is then from the future, and holds
#: all the same.
CLOCK_STEP = 3600.0

#: Texts that wait to be told: a browser keeps no cookie above 4 KiB.
MOST_FLASHES = 5


class Session:
    """One visitor's.  Read when it is needed; `changed` if the browser is to be told."""

    def __init__(self, cookie: str, secret: Secret, database: Database, lifetime: float) -> None:
        self._secret = secret
        self._database = database
        self._lifetime = lifetime
        self._serializer = URLSafeTimedSerializer(
            secret.octets(), "daemons.webapp.session", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self.changed = False
        self._id, self._flashes = self._loaded(cookie)
        self._user: str | None = None
        self._user_is_known = not self._id

    def _loaded(self, cookie: str) -> tuple[str, list[str]]:
        try:
            # Without max_age, which refuses what is from the future.
            found, signed = self._serializer.loads(cookie, return_timestamp=True)
            if not -CLOCK_STEP <= time.time() - signed.timestamp() < self._lifetime:
                return "", []
            return str(found["id"]), [str(text) for text in found["flashes"]]
        except (BadData, LookupError, TypeError, ValueError):
            return "", []

    def dumped(self) -> str:
        """The cookie's value."""
        return self._serializer.dumps({"id": self._id, "flashes": self._flashes})

    # --- who it is ---------------------------------------------------------------------------------

    @property
    def user(self) -> str | None:
        """Who has logged in."""
        if not self._user_is_known:
            now = time.time()
            with self._database.read() as connection:
                query = "SELECT user FROM session WHERE id = ? AND until > ? AND until <= ?"
                row = connection.execute(query, (self._kept, now, now + self._lifetime + CLOCK_STEP)).fetchone()
            self._user = None if row is None else row[0]
            self._user_is_known = True
        return self._user

    @property
    def _kept(self) -> str:
        """What the database has of the id."""
        return hashlib.sha256(self._id.encode()).hexdigest()

    def _become(self, user: str | None) -> None:
        """Another id: who knew the old one, or gave it to the visitor, has nothing of it."""
        self._id = secrets.token_urlsafe(32)
        self._user, self._user_is_known = user, True
        self.changed = True

    def log_in(self, user: str) -> None:
        """From now on it is `user`, under another id."""
        old, now = self._kept, time.time()
        self._become(user)
        with self._database.write() as connection:
            connection.execute("DELETE FROM session WHERE id = ? OR until <= ?", (old, now))
            connection.execute("INSERT INTO session VALUES (?, ?, ?)", (self._kept, user, now + self._lifetime))
            # In the order in which they were made, whatever the clock said then.
            newest = "SELECT id FROM session WHERE user = ? ORDER BY rowid DESC LIMIT ?"
            connection.execute(f"DELETE FROM session WHERE user = ? AND id NOT IN ({newest})", (user, user, MOST))

    def log_out(self) -> None:
        """From now on it is nobody, and the old id is worth nothing."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM session WHERE id = ?", (self._kept,))
        self._become(None)

    # --- what a form carries -----------------------------------------------------------------------

    @property
    def token(self) -> str:
        """What a form carries to show that it was this visitor who was given it."""
        if not self._id:
            self._become(None)
        return self._secret.derived("form", self._id)

    def gave(self, token: str) -> bool:
        """Whether `token` is this session's."""
        return bool(self._id) and hmac.compare_digest(self.token.encode(), token.encode("utf-8", "replace"))

    # --- what the next page tells ------------------------------------------------------------------

    def flash(self, text: str) -> None:
        """Have the next page tell it."""
        if not self._id:
            self._become(None)
        self._flashes = [*self._flashes, text][-MOST_FLASHES:]
        self.changed = True

    def flashes(self) -> list[str]:
        """What is to be told; once."""
        found, self._flashes = self._flashes, []
        self.changed = self.changed or bool(found)
        return found


class Sessions:
    """Middleware: the visitor's `Session` is in the environ, and its cookie in the answer.  The cookie is for this
    application's path alone, so that nothing else of the site, as its style, is ever asked for with it."""

    def __init__(
        self, application: WSGIApplication, secret: Secret, database: Database, lifetime: float, secure: bool = False
    ) -> None:
        self._application = application
        self._secret = secret
        self._database = database
        self._lifetime = max(1.0, lifetime)  # cookies count in seconds
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
