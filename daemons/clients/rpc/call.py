"""``daemons call NAME METHOD [VALUES]``: call a function that somebody publishes, and print its result.

The service is a daemon of ours, by its name, or any other by its URL.  Values are JSON: ``3``, ``true``,
``'[1, "two"]'``; what is none is a string.  Results are printed so, too, but strings as they are.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from daemons.clients.net.dial import NetworkError
from daemons.clients.rpc.call_arguments import SECRET, without_password
from daemons.clients.rpc.rpc import Call, Caller, Place, ProtocolError, RemoteFault
from daemons.operating import lifecycle
from daemons.operating.config import ini
from daemons.operating.config.sections import Settings
from daemons.operating.loading.targets import target_of
from daemons.printable import escape, is_printable
from daemons.settings.complaints import ConfigurationError

#: Exit codes beside those of all commands: the function said no; who answered does not speak the protocol.  That
#: nobody answered is a failure, 1.
FAULT, NO_PROTOCOL = 3, 4

#: Characters of the longest file of --batch, all of which is held: /dev/zero has no end.
LONGEST_BATCH = 16 * 1024 * 1024

#: In JSON such characters are in strings only.
_SUSPECT = re.compile(r"[^ -~]")


def run(options: argparse.Namespace, conf: Path) -> int:
    """Carry out one command line; returns the exit code."""
    ways = bool(options.words) + options.list + (options.batch is not None)
    if ways != 1:
        return _refuse(options, "write METHOD VALUES, --list or --batch FILE; one of them")
    try:
        caller = _caller(options, conf)
        if options.list:
            return _list(caller)
        if options.batch is not None:
            return _batch(caller, options)
        method, *values = options.words
        print(_shown(caller.call(method, [_value(word) for word in values])))
    except ValueError as error:
        return _refuse(options, str(error))
    except (RemoteFault, ProtocolError, NetworkError) as error:
        print(f"{escape(without_password(options.target))}: {escape(str(error))}", file=sys.stderr)
        return _code(error)
    return lifecycle.ENDED


def _refuse(options: argparse.Namespace, reason: str) -> int:
    print(f"{escape(without_password(options.target))}: {escape(reason)}", file=sys.stderr)
    return lifecycle.USAGE


def _code(error: Exception) -> int:
    return (
        FAULT if isinstance(error, RemoteFault) else NO_PROTOCOL if isinstance(error, ProtocolError) else lifecycle.BUG
    )


def _caller(options: argparse.Namespace, conf: Path) -> Caller:
    """Who calls.  Raises `ValueError` for what is no URL, `ConfigurationError`."""
    more: dict[str, Any] = {"retries": options.retries, "all_idempotent": options.idempotent}
    if "://" in options.target:
        kind: type[Caller] = _json_caller() if options.json else _xml_caller()
        return kind(_known(Place.of(options.target, options.timeout, options.cafile), options), **more)
    settings = ini.read(conf, options.target, (), options.run)
    if settings.target not in ("rpc", "jsonrpc"):
        raise ConfigurationError(
            [f"conf/{settings.name}.ini: {settings.name} publishes no functions; there is no rpc = and no jsonrpc ="]
        )
    target = target_of(settings)
    published, chosen = target.served_class, target.options
    more["idempotent"] = [name for name, method in published.methods.items() if method.idempotent]
    if settings.target == "jsonrpc":
        place = _known(_place(settings, options, chosen.path), options)
        return cast(Caller, _json_caller()(place, lines=chosen.framing == "lines", **more))
    return _xml_caller()(_known(_place(settings, options, chosen.path[0]), options), **more)


def _xml_caller() -> type[Caller]:
    from daemons.clients.rpc.xml_rpc import XMLCaller

    return XMLCaller


def _json_caller() -> type[Any]:
    from daemons.clients.rpc.json_rpc import JSONCaller

    return JSONCaller


def _place(settings: Settings, options: argparse.Namespace, path: str) -> Place:
    """Where a daemon of ours is."""
    own = [address for address in settings.addresses if not address.inherited]
    if not own:
        where = f"conf/{settings.name}.ini [daemon] listen = {settings.addresses[0]}"
        raise ConfigurationError([f"{where}: somebody else decides where that is; write its URL"])
    made = settings.run / "tls" / "ca.pem"
    cafile = options.cafile or (made if made.is_file() else None)
    host = "localhost" if own[0].scheme == "unix" else str(own[0]).partition("://")[2]
    return Place(own[0], path, host, timeout=options.timeout, cafile=cafile)


def _known(place: Place, options: argparse.Namespace) -> Place:
    """The same for who is named on the command line."""
    if options.user is None:
        return place
    if ":" in options.user:
        raise ValueError(f"--user {options.user}: a name has no colon (RFC 7617, section 2)")
    secret = os.environ.get(SECRET)
    if secret is None:
        raise ValueError(f"--user {options.user}: the secret is missing; put it into ${SECRET}")
    return Place(place.address, place.path, place.host, f"{options.user}:{secret}", place.timeout, place.cafile)


def _list(caller: Caller) -> int:
    """As Rhodes and Goerzen's xmlrpc_introspect.py prints it, Foundations of Python Network Programming, chapter 18."""
    listed = caller.listed()
    print("Here are the functions supported by this server:")
    for _, shown, text in listed:
        print("\n".join(map(escape, shown.splitlines())))
        for line in text.splitlines():
            print(f"   {escape(line)}".rstrip())
    return lifecycle.ENDED


def _batch(caller: Caller, options: argparse.Namespace) -> int:
    try:
        source = 0 if options.batch == "-" else options.batch
        with open(source, encoding="utf-8-sig", closefd=options.batch != "-") as file:
            text = file.read(LONGEST_BATCH + 1)
    except OSError as error:
        raise ValueError(f"--batch {options.batch}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--batch {options.batch}: not UTF-8: {error.reason}") from error
    if len(text) > LONGEST_BATCH:
        raise ValueError(f"--batch {options.batch}: more than {LONGEST_BATCH} characters")
    calls = list(_calls(text.split("\n"), options.batch))
    code = lifecycle.ENDED
    for (line, _), answer in zip(calls, caller.batch([call for _, call in calls]), strict=True):
        if isinstance(answer, RemoteFault):
            sys.stdout.flush()
            where = f"{escape(without_password(options.target))}: {options.batch}, line {line}"
            print(f"{where}: {escape(str(answer))}", file=sys.stderr)
            code = FAULT
        else:
            print(_shown(answer))
    return code


def _calls(lines: Iterable[str], name: str) -> Iterable[tuple[int, Call]]:
    """Of each line its number and what it says; quotes are those of the shell, and lines that begin with # are
    notes."""
    for number, line in enumerate(lines, 1):
        try:
            words = [] if line.startswith("#") else shlex.split(line)
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {str(error).lower()}") from None
        if words:
            yield number, (words[0], [_value(word) for word in words[1:]])


def _value(word: str) -> Any:
    """What a word stands for."""
    try:
        return json.loads(word, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return word


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _shown(value: Any) -> str:
    """A result for people and programs."""
    if isinstance(value, str):
        return "\n".join(map(escape, value.split("\n")))
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, default=_plain)
    return _SUSPECT.sub(_escape_in_json, text)


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by strings: "Infinity", "-Infinity" and "NaN"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def _escape_in_json(match: re.Match[str]) -> str:
    r"""Return a character as JSON escapes it, such as ``\u202e``: for programs the result stays the same."""
    return match[0] if is_printable(match[0]) else json.dumps(match[0])[1:-1]


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else base64.b64encode(value).decode()
