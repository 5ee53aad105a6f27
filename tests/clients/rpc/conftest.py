"""Fixture of tests/rpc: a fresh traceback budget for each test."""

from tests.rpc.conftest import _tracebacks

__all__ = ["_tracebacks"]
