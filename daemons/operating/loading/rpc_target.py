"""What ``rpc =`` and ``jsonrpc =`` in an ini come to."""

from __future__ import annotations

from typing import Any

from daemons.operating.config.sections import Settings
from daemons.settings.complaints import ConfigurationError


def publication(settings: Settings, origin: object) -> Any:
    """The handler of what ``rpc =`` publishes, or the service of what ``jsonrpc =`` does.  Raises `TypeError` and
    `ValueError` for what cannot be published."""
    if settings.daemon.jsonrpc:
        from daemons.rpc.json.service import JSONRPC  # http.server is dear, and most do without it

        return JSONRPC.of(origin, settings.name)
    from daemons.rpc.xml.publishing import Published

    return Published.of(origin, settings.name)


def configured(settings: Settings, kind: Any, options: Any) -> Any:
    """The handler with its options; one that is not published has none.  Raises `ConfigurationError`."""
    if options is None:
        return kind
    check_secrets(settings, options)
    if options.users is not None and options.users.slow and settings.daemon.engine == "loop":
        origin = settings.origins.get((settings.own_section, "users"), "")
        reason = f"engine = loop cannot wait for the scrypt in {options.users.path}; write engine = pool, or give "
        reason += "secrets to programs: daemons password --generate FILE NAME"
        raise ConfigurationError([f"{origin} [{settings.own_section}] users: {reason}"])
    return kind.configured(options)


def check_secrets(settings: Settings, options: Any) -> None:
    """Who must say a secret must not say it to everybody on the way.  Raises `ConfigurationError`."""
    in_clear = [address for address in settings.addresses if address.scheme != "tls" and not address.loopback]
    if options.users is not None and in_clear:
        origin = settings.origins.get((settings.own_section, "users"), "")
        reason = f"secrets would cross the network in the clear at {in_clear[0]}; write listen = tls://HOST:PORT"
        raise ConfigurationError([f"{origin} [{settings.own_section}] users: {reason}"])
