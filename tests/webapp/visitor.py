"""A browser without a socket or a page."""

from __future__ import annotations

import re
from typing import Any
from wsgiref.validate import validator

from werkzeug.test import Client, TestResponse


class Visitor(Client):
    """Visits `application`, and checks PEP 3333 at each request.  Keeps cookies; follows no redirect unless told to."""

    def __init__(self, application: Any) -> None:
        super().__init__(validator(application))

    def open(self, *words: Any, **more: Any) -> TestResponse:
        return super().open(*words, **{"buffered": True, **more})

    def token(self, path: str) -> str:
        """What the form at `path` carries."""
        found = re.search(r'name="token" value="([0-9a-f]{64})"', self.get(path).text)
        assert found
        return found[1]

    def log_in(self, user: str = "brandon", password: str = "atigdng") -> TestResponse:
        """As a person does."""
        fields = {"username": user, "password": password, "token": self.token("/bank/login")}
        return self.post("/bank/login", data=fields)

    def payments(self) -> list[tuple[str, int, str]]:
        """What its account shows, read as the book's scraper reads it: which way, how much, what for."""
        page = self.get("/bank/").text
        items = re.findall(r'<li class="(to|from)">(.*?)</li>', page, re.DOTALL)
        found = []
        for way, item in items:
            text = re.sub("<.*?>", "", item)
            found.append((way, int(text.split()[0].lstrip("$")), re.search("<i>(.*?)</i>", item)[1]))  # type: ignore[index]
        return found
