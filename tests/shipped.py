"""The daemons that the project ships.  A checkout may have others: those of the person who works in it."""

from __future__ import annotations

SHIPPED = (
    *("adder", "bcast", "blocks", "calc", "daytime", "dns", "echo", "front", "httpd", "httpsd", "jsonrpc"),
    *("launcelot", "linecount", "lines", "prefix", "rpcmath", "sixteen", "streamer", "tlsd", "twoway", "udpd"),
    *("upper", "webapp", "welcome", "zen"),
)
