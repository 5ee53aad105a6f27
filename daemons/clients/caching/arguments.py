"""Arguments of the clients of caches."""

from __future__ import annotations

import argparse

from daemons.clients import tools

#: memcached's default port, which is cached's as well.
PORT = 11211


def add_servers(parser: argparse.ArgumentParser) -> None:
    """Add the option --server."""
    parser.add_argument(
        "--server",
        dest="servers",
        metavar="HOST[:PORT]",
        type=_server,
        action="append",
        help=f"a cached or memcached, the same in every client; repeat it for several (default 127.0.0.1:{PORT})",
    )


def servers_of(options: argparse.Namespace) -> list[str]:
    """Return the addresses of the servers."""
    return options.servers or [f"127.0.0.1:{PORT}"]


def _server(text: str) -> str:
    host, port = tools.host_and_port(text, PORT)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
