"""``daemons cache get|set|delete|stats``: values in a cache, and its statistics."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheError, MemcacheIllegalInputError

from daemons.clients import output, tools
from daemons.clients.caching.arguments import add_servers, servers_of
from daemons.printable import escape

#: Seconds to wait for a server: longer than a program waits, which can do without the cache.
TIMEOUT = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", choices=("get", "set", "delete", "stats"), help="%(choices)s")
    parser.add_argument("key", metavar="KEY", nargs="?", help="for get, set and delete")
    parser.add_argument("value", metavar="VALUE", nargs="?", help="for set: text, or - for the standard input")
    parser.add_argument("--ttl", metavar="SECONDS", type=_seconds, help="for set: expiration time (default: none)")
    add_servers(parser)
    tools.add_timeout(parser, TIMEOUT)
    parser.set_defaults(refuse=parser.error)
    parser.epilog = (
        "Prints a value, or the statistics of each server. Exit codes: 0 done, 1 no such key, or a server failed, "
        "2 wrong command line."
    )


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10:
        raise argparse.ArgumentTypeError(f"{text!r}: whole seconds are expected")
    return int(text)


def run(options: argparse.Namespace) -> int:
    servers = servers_of(options)
    expected = {"stats": (False, False), "set": (True, True)}.get(options.action, (True, False))
    if (options.key is not None, options.value is not None) != expected or (options.ttl and options.action != "set"):
        options.refuse("write get KEY, set KEY VALUE, delete KEY or stats; only set has --ttl")
    if options.action == "stats":
        return _stats(servers, options.timeout)
    seconds = options.timeout
    client = HashClient(servers, connect_timeout=seconds, timeout=seconds, no_delay=True, default_noreply=False)
    try:
        return _ACTIONS[options.action](client, options)
    except MemcacheIllegalInputError as error:
        raise tools.ToolError(
            f"{escape(options.key)}: not a key; 1 to 250 bytes without spaces are expected"
        ) from error
    except (OSError, MemcacheError) as error:
        raise tools.ToolError(f"{', '.join(servers)}: {_reason_of(error)}") from error
    finally:
        client.close()


def _reason_of(error: Exception) -> str:
    text = str(error) if not isinstance(error, OSError) else tools.reason_of(error)
    if error.args and isinstance(error.args[0], bytes):
        text = error.args[0].decode("ascii", "replace")
    return escape(text)


def _get(client: HashClient, options: argparse.Namespace) -> int:
    value: bytes | None = client.get(options.key)
    if value is None:
        return tools.refuse("cache", f"{options.key}: no such key")
    output.write_all([value])
    return tools.DONE


def _set(client: HashClient, options: argparse.Namespace) -> int:
    value = sys.stdin.buffer.read() if options.value == "-" else options.value.encode()
    if not client.set(options.key, value, expire=options.ttl or 0):
        return tools.refuse("cache", f"{options.key}: not stored")
    return tools.DONE


def _delete(client: HashClient, options: argparse.Namespace) -> int:
    if not client.delete(options.key):
        return tools.refuse("cache", f"{options.key}: no such key")
    return tools.DONE


_ACTIONS = {"get": _get, "set": _set, "delete": _delete}


def _stats(servers: list[str], timeout: float) -> int:
    code = tools.DONE
    for server in servers:
        client = Client(server, connect_timeout=timeout, timeout=timeout)
        try:
            figures: Mapping[bytes, Any] = client.stats()
        except (OSError, MemcacheError) as error:
            code = tools.refuse("cache", f"{server}: {_reason_of(error)}")
            continue
        finally:
            client.close()
        print(server)
        for name, value in figures.items():
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            print(f"  {escape(name.decode('utf-8', 'replace')):<20} {escape(text)}")
    return code
