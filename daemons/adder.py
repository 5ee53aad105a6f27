"""Add two numbers over XML-RPC.

[daemon]
rpc = daemons.adder
port = 8081
"""

from __future__ import annotations

from daemons import idempotent

__all__ = ["add"]


@idempotent
def add(x: float, y: float) -> float:
    """Return the sum of x and y."""
    return x + y
