"""The site as a whole: what is mounted where, and what stands in front of it."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

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
from daemons.webapp.rendering import ROOT, render
from daemons.webapp.secret import Secret
from daemons.webapp.sessions import Sessions

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

STATIC = Path(__file__).parent / "static"

#: What a banner may have in it.
IN_BANNER = ("time", "visitor")


@dataclass(frozen=True)
class Mount:
    """One application of the site, as the front page tells of it."""

    path: str
    title: str
    text: str
    application: WSGIApplication
    #: Whether it is called without a slash behind its path as well: programs do not follow a redirect to it.
    called: bool = False


def _banner(text: str) -> str:
    template = Template(text)
    expected = f"write {' or '.join(f'${name}' for name in IN_BANNER)}, and $$ for a $"
    if not template.is_valid():
        raise ValueError(f"a $ without a name behind it; {expected}")
    if unknown := set(template.get_identifiers()) - {*IN_BANNER}:
        raise ValueError(f"no such name: {', '.join(sorted(unknown))}; {expected}")
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
            raise ValueError(f"{host}: a name without a port is expected, as localhost")
    return tuple(host.strip("[]") for host in hosts)


def _proxies(text: str) -> tuple[str, ...]:
    return tuple(each if each == "unix" else _address(each) for each in text.split())


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text}: neither an address nor unix; write 127.0.0.1, ::1 or unix") from None


BANNER: FieldType[str] = FieldType(_banner, str, "text with $time, $visitor")
PROXIES: FieldType[tuple[str, ...]] = FieldType(_proxies, " ".join, "addresses, separated by blanks")
HOSTS: FieldType[tuple[str, ...]] = FieldType(_hosts, " ".join, "names, separated by blanks")


class Webapp:
    """The WSGI application."""

    @dataclass(frozen=True)
    class Options:
        """The section [webapp]."""

        key: str = setting(PATH, "run/webapp.key", "the secret that signs cookies; made where there is none")
        database: str = setting(PATH, "run/webapp.db", "the bank's database; made where there is none")
        users: str = setting(PATH, "run/webapp.users", "the bank's users file; made together with the database")
        session: float = setting(DURATION, 12 * 3600.0, "for how long a login holds")
        secure: bool = setting(YES_NO, False, "cookies for TLS alone, where a proxy speaks it; over tls:// always")
        hosts: tuple[str, ...] = setting(HOSTS, (), "the names that are answered for; empty: every name")
        proxies: tuple[str, ...] = setting(
            PROXIES, (), "proxies in front, whose X-Forwarded-For is believed: addresses, or unix for a Unix socket"
        )
        banner: str = setting(BANNER, "", "a line above the front page")

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
        return self._application(environ, start_response)

    def _front(self, request: Form) -> Response:
        said = {"time": time.ctime(), "visitor": request.remote_addr or "somebody"}
        return render(request, "front.html", banner=self._banner.substitute(said).strip(), mounts=self._mounts)


def mounts(secret: Secret, database: Database, options: Webapp.Options) -> list[Mount]:
    """What is mounted, in the order of the front page.  Any WSGI application can be: one more is one more line."""
    sums = dispatcher(rpcmath)
    accounts = Accounts(options.users)
    bank = Authenticated(Bank(database, accounts), accounts.knows)
    sessions = Sessions(bank, secret, database, options.session, options.secure)
    return [
        Mount("/bank", "Bank", "Log in, see your payments, and make one: forms that change something.", sessions),
        Mount("/base64", "Base64, by hand", "A form on WSGI alone: a function, and nothing else.", Themed(base64_form)),
        Mount("/bottle", "Base64, with Bottle", "The same form, in a framework of others.", Themed(bottle_form)),
        Mount("/time", "Time", "What the clock says, in one line of text.", timeapp.timeapp),
        Mount("/environ", "Environ", "All that an application is told of a request.", environ_dump.pages),
        Mount(
            "/rpc",
            "XML-RPC",
            "Sums, for programs; and who may read, reads what they can call.",
            RPC({"": sums, "/": sums}, title="Sums"),
            True,
        ),
        Mount(
            "/jsonrpc",
            "JSON-RPC",
            "The same by JSON.",
            JSONApplication({"": rpcmath, "/": rpcmath}, title="Sums"),
            True,
        ),
        Mount("/api", "JSON", "The form and the weather, for programs.", MethodOverride(api.pages)),
    ]


def _static(request: Form, name: str) -> Response:
    return send_from_directory(STATIC, name, request.environ, max_age=3600)
