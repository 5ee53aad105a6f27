"""Clients of caches: cache, squares, hashing."""
