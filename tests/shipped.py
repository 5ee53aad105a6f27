"""The daemons shipped with the project.  A checkout may have further local ones."""

from __future__ import annotations

SHIPPED = (
    *("adder", "bcast", "blocks", "cached", "calc", "chat", "daytime", "dns", "echo", "front", "guess", "httpd"),
    *("httpsd", "jsonrpc", "launcelot", "linecount", "lines", "prefix", "rpcmath", "sixteen", "slow", "streamer"),
    *("tlsd", "twoway", "udpd", "upper", "webapp", "welcome", "zen"),
)
