"""Clients of the DNS and of the system's name service."""
