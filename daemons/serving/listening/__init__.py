"""Addresses, and the sockets that listen on them."""
