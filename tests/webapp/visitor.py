"""HTTP client without a socket."""

from __future__ import annotations

import re
from typing import Any
from wsgiref.validate import validator

from werkzeug.test import Client, TestResponse


class Visitor(Client):
    """Client that checks PEP 3333 at each request and keeps cookies; follows redirects on request only."""

    def __init__(self, application: Any) -> None:
        super().__init__(validator(application))

    def open(self, *words: Any, **more: Any) -> TestResponse:
        return super().open(*words, **{"buffered": True, **more})

    def token(self, path: str) -> str:
        """Return the CSRF token of the form at `path`."""
        found = re.search(r'name="token" value="([0-9a-f]{64})"', self.get(path).text)
        assert found
        return found[1]

    def log_in(self, user: str = "brandon", password: str = "atigdng") -> TestResponse:
        """Log in through the form."""
        fields = {"username": user, "password": password, "token": self.token("/bank/login")}
        return self.post("/bank/login", data=fields)

    def payments(self) -> list[tuple[str, int, str]]:
        """Return the payments on the account page: direction, amount and memo."""
        page = self.get("/bank/").text
        items = re.findall(r'<li class="(to|from)">(.*?)</li>', page, re.DOTALL)
        found = []
        for way, item in items:
            text = re.sub("<.*?>", "", item)
            found.append((way, int(text.split()[0].lstrip("$")), re.search("<i>(.*?)</i>", item)[1]))  # type: ignore[index]
        return found
