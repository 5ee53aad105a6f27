"""As for tests/rpc: the budget of tracebacks, whole for each test."""

from tests.rpc.conftest import _tracebacks

__all__ = ["_tracebacks"]
