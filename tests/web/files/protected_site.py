"""A site with protected paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from daemons.httpd import Httpd
from daemons.web.site.protection import Realm
from tests.web.example_site import WRITTEN, ask, service
from tests.web.site.test_protection import GOOD, basic

SECRET = b"the plan of the castle" * 20


ROBIN = basic("Robin", "the brave")


def put(folder: Path, path: str, content: bytes = SECRET) -> Path:
    file = folder / "www" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (WRITTEN, WRITTEN))
    return file


def site(folder: Path, *paths: str, robins: str = "", **options: Any) -> Httpd:
    """Return a site in which Arthur may read `paths`, and Robin may read `robins`."""
    realms = {path: Realm("The vault", str(folder / "users")) for path in paths}
    if robins:
        realms[robins] = Realm("Robin's", str(folder / "others"))
    return service(str(folder / "www"), protected=realms, **options)


def assert_protected(httpd: Httpd, path: str, *fields: str) -> None:
    """Assert that no response discloses the file at `path` without the password, also after it was requested with
    it."""
    tagged = ask(httpd, path, GOOD, *fields)
    assert (tagged.status, tagged.fields["Cache-Control"]) == (200, "private, no-cache"), path
    conditions = (
        ["Range: bytes=0-3"],
        ["If-None-Match: *"],
        [f"If-None-Match: {tagged.fields.get('ETag')}"],
        ["If-Match: x"],
        ["If-Modified-Since: Sun, 12 Oct 2035 08:00:00 GMT"],
    )
    for method in ("GET", "HEAD"):
        for more in ([], *conditions):
            found = ask(httpd, path, *fields, *more, method=method)
            assert (found.status, "ETag" in found.fields) == (401, False), (path, method, more)
            assert SECRET[:8] not in found.body
    assert ask(httpd, path, basic("Arthur", "guess"), *fields).status == 401
    for method in ("PUT", "DELETE", "POST", "OPTIONS"):
        assert ask(httpd, path, *fields, method=method).status in (204, 401, 405)
