"""Addresses and listening sockets."""
