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
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    get = actions.add_parser("get", help="print a value")
    get.add_argument("key", metavar="KEY")
    put = actions.add_parser("set", help="store a value")
    put.add_argument("key", metavar="KEY")
    put.add_argument("value", metavar="VALUE", help="text, or - for the standard input")
    put.add_argument("--ttl", metavar="SECONDS", type=_seconds, default=0, help="expiration time (default: none)")
    delete = actions.add_parser("delete", help="remove a value")
    delete.add_argument("key", metavar="KEY")
    stats = actions.add_parser("stats", help="print the statistics of each server")
    for action in (get, put, delete, stats):
        add_servers(action)
        action.epilog = "Exit codes: 0 done, 1 no such key, or a server that cannot be reached, 2 wrong command line."


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10:
        raise argparse.ArgumentTypeError(f"{text!r}: whole seconds are expected")
    return int(text)


def run(options: argparse.Namespace) -> int:
    servers = servers_of(options)
    if options.action == "stats":
        return _stats(servers)
    client = HashClient(servers, connect_timeout=TIMEOUT, timeout=TIMEOUT, no_delay=True, default_noreply=False)
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
    if not client.set(options.key, value, expire=options.ttl):
        return tools.refuse("cache", f"{options.key}: not stored")
    return tools.DONE


def _delete(client: HashClient, options: argparse.Namespace) -> int:
    if not client.delete(options.key):
        return tools.refuse("cache", f"{options.key}: no such key")
    return tools.DONE


_ACTIONS = {"get": _get, "set": _set, "delete": _delete}


def _stats(servers: list[str]) -> int:
    code = tools.DONE
    for server in servers:
        client = Client(server, connect_timeout=TIMEOUT, timeout=TIMEOUT)
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
