"""Clients of each protocol.  Beside them only the gateway, `daemons.web.gateway`, opens outgoing connections."""
