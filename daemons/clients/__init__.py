"""Clients of each protocol; the only code that opens outgoing connections."""
