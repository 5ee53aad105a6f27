"""Clients of XML-RPC, JSON-RPC and RPyC."""
