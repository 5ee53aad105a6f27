"""Connections of clients: TCP, TLS, UDP; and tools for the network itself."""
