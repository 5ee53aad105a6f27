"""The site: its applications with their mount points, and the middleware in front of them."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from werkzeug.http import parse_date
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.utils import send_from_directory
from werkzeug.wrappers import Response

from daemons import DURATION, PATH, YES_NO, FieldType, rpcmath, setting
from daemons.accounts import Accounts
from daemons.accounts.users_file import checked
from daemons.rpc.json.wsgi import JSONApplication
from daemons.rpc.xml.wsgi import RPC, dispatcher
from daemons.webapp import api, environ_dump, timeapp, weather
from daemons.webapp.bank import Bank
from daemons.webapp.base64_form import base64_form
from daemons.webapp.bottle_form import bottle_form
from daemons.webapp.database import Database
from daemons.webapp.dispatch import Form, Pages, slashed
from daemons.webapp.middleware import (
    Authenticated,
    BehindProxies,
    CaseSensitive,
    ForHosts,
    MethodOverride,
    Recorded,
    Secured,
    Themed,
)
from daemons.webapp.page_cache import CACHE
from daemons.webapp.rendering import ROOT, render
from daemons.webapp.secret import Secret
from daemons.webapp.sessions import Sessions

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from daemons.caching import Cache

STATIC = Path(__file__).parent / "static"

#: Placeholders of a banner.
BANNER_NAMES = ("time", "visitor")


@dataclass(frozen=True)
class Mount:
    """An application of the site, with its entry on the front page."""

    path: str
    title: str
    text: str
    application: WSGIApplication
    #: Whether it also answers without a trailing slash: RPC clients do not follow redirects.
    called: bool = False


def _banner(text: str) -> str:
    template = Template(text)
    expected = f"write {' or '.join(f'${name}' for name in BANNER_NAMES)}, and $$ for a $"
    if not template.is_valid():
        raise ValueError(f"a $ without a name; {expected}")
    if unknown := set(template.get_identifiers()) - {*BANNER_NAMES}:
        raise ValueError(f"unknown name: {', '.join(sorted(unknown))}; {expected}")
    return text


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(text.lower().split())
    for host in hosts:
        if host.startswith("[") or host.count(":") > 1:
            try:
                ipaddress.IPv6Address(host.strip("[]"))
            except ValueError:
                raise ValueError(f"{host}: neither a name nor an address; write localhost or 127.0.0.1") from None
        elif ":" in host or "/" in host:
            raise ValueError(f"{host}: expected a name without a port, such as localhost")
    return tuple(host.strip("[]") for host in hosts)


def _proxies(text: str) -> tuple[str, ...]:
    return tuple(each if each == "unix" else _address(each) for each in text.split())


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text}: neither an address nor unix; write 127.0.0.1, ::1 or unix") from None


def _caches(text: str) -> tuple[str, ...]:
    for each in text.split():
        if not re.fullmatch(r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", each):
            raise ValueError(f"{each}: not a server; write HOST:PORT, such as 127.0.0.1:11211")
    return tuple(text.split())


CACHES: FieldType[tuple[str, ...]] = FieldType(_caches, " ".join, "addresses, separated by spaces")
BANNER: FieldType[str] = FieldType(_banner, str, "text with $time, $visitor")
PROXIES: FieldType[tuple[str, ...]] = FieldType(_proxies, " ".join, "addresses, separated by spaces")
HOSTS: FieldType[tuple[str, ...]] = FieldType(_hosts, " ".join, "names, separated by spaces")


class Webapp:
    """The WSGI application."""

    @dataclass(frozen=True)
    class Options:
        """The section [webapp]."""

        key: str = setting(PATH, "run/webapp.key", "File with the secret that signs cookies; created if missing.")
        database: str = setting(PATH, "run/webapp.db", "The bank's database file; created if missing.")
        users: str = setting(PATH, "run/webapp.users", "The bank's users file; created together with the database.")
        session: float = setting(DURATION, 12 * 3600.0, "Lifetime of a login.")
        secure: bool = setting(
            YES_NO, False, "Mark cookies Secure, for a proxy that terminates TLS; always over tls://."
        )
        hosts: tuple[str, ...] = setting(HOSTS, (), "Accepted host names; if empty, every name.")
        proxies: tuple[str, ...] = setting(
            PROXIES, (), "Proxies trusted to set X-Forwarded-For: addresses, or unix for a Unix socket."
        )
        cache: tuple[str, ...] = setting(
            CACHES, (), "Servers of a cache for pages, cached or memcached; if empty, each page is rendered anew."
        )
        banner: str = setting(BANNER, "", "Line at the top of the front page.")

    def __init__(self, options: Options | None = None) -> None:
        options = options or self.Options()
        secret = Secret(Path(options.key))
        if complaint := secret.complaint():
            raise TypeError(complaint)
        if Path(options.users).exists():
            try:
                checked(options.users)
            except ValueError as error:
                raise TypeError(str(error)) from None
        self._banner = Template(options.banner)
        self._cache = cache_of(options.cache)
        self._mounts = mounts(secret, Database(Path(options.database), Path(options.users)), options)
        application: WSGIApplication = DispatcherMiddleware(
            Pages({"/": {"GET": self._front}, "/static/<path:name>": {"GET": _static}, **weather.TABLE}),
            {each.path: each.application if each.called else slashed(each.application) for each in self._mounts},
        )
        application = BehindProxies(CaseSensitive(ForHosts(application, options.hosts)), options.proxies)
        self._application = Recorded(Secured(application))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """PEP 3333."""
        environ[ROOT] = environ.get("SCRIPT_NAME", "")
        if self._cache is not None:
            environ[CACHE] = self._cache
        return self._application(environ, start_response)

    def _front(self, request: Form) -> Response:
        values = {"time": time.ctime(), "visitor": request.remote_addr or "unknown"}
        return render(request, "front.html", banner=self._banner.substitute(values).strip(), mounts=self._mounts)


def cache_of(servers: tuple[str, ...]) -> Cache | None:
    """Return a client of the cache on these servers; None for none.  Raises `TypeError` if pymemcache is missing."""
    if not servers:
        return None
    try:
        from daemons.caching import Cache
    except ModuleNotFoundError as error:
        hint = "pip install 'camelot-daemons[cache]'"
        raise TypeError(f"cache: the package {error.name} is not installed: {hint}, or remove the setting") from error
    return Cache(servers)


def mounts(secret: Secret, database: Database, options: Webapp.Options) -> list[Mount]:
    """Return the mounted applications in the order of the front page.  Any WSGI application may be added."""
    sums = dispatcher(rpcmath)
    accounts = Accounts(options.users)
    bank = Authenticated(Bank(database, accounts), accounts.stored)
    sessions = Sessions(bank, secret, database, options.session, options.secure)
    return [
        Mount("/bank", "Bank", "Log in, list your payments and make new ones: forms that change data.", sessions),
        Mount("/base64", "Base64, plain WSGI", "A form written as a WSGI function.", Themed(base64_form)),
        Mount("/bottle", "Base64, with Bottle", "The same form, written with Bottle.", Themed(bottle_form)),
        Mount("/time", "Time", "The local time as one line of text.", timeapp.timeapp),
        Mount("/environ", "Environ", "The WSGI environ of a request.", environ_dump.pages),
        Mount(
            "/rpc",
            "XML-RPC",
            "Sums for programs, with a documentation page.",
            RPC({"": sums, "/": sums}, title="Sums"),
            True,
        ),
        Mount(
            "/jsonrpc",
            "JSON-RPC",
            "The same functions over JSON-RPC.",
            JSONApplication({"": rpcmath, "/": rpcmath}, title="Sums"),
            True,
        ),
        Mount("/api", "JSON", "The base64 form and the weather for programs.", MethodOverride(api.pages)),
    ]


def _static(request: Form, name: str) -> Response:
    return send_from_directory(STATIC, name, _without_wrong_dates(request.environ), max_age=3600)


def _without_wrong_dates(environ: WSGIEnvironment) -> WSGIEnvironment:
    """Return the environ without conditions that are not dates, which are ignored (RFC 9110, section 13.1).  Werkzeug
    fails for some of them."""
    dates = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE")
    valid = {key: value for key, value in environ.items() if key not in dates or _is_date(value)}
    condition = valid.get("HTTP_IF_RANGE", '"')
    if not condition.startswith(('"', "W/")) and not _is_date(condition):
        valid.pop("HTTP_RANGE", None)  # a wrong If-Range is false
        del valid["HTTP_IF_RANGE"]
    return valid


def _is_date(text: str) -> bool:
    try:
        return parse_date(text) is not None
    except OverflowError:
        return False
