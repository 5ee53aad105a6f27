"""Integer calculator over XML-RPC.

[daemon]
rpc = daemons.calc
port = 8000
"""

from __future__ import annotations

from daemons import idempotent

__all__ = ["add", "divide", "multiply", "subtract"]


@idempotent
def add(x: int, y: int) -> int:
    """Return the sum of x and y."""
    return x + y


@idempotent
def subtract(x: int, y: int) -> int:
    """Return x minus y."""
    return x - y


@idempotent
def multiply(x: int, y: int) -> int:
    """Return the product of x and y."""
    return x * y


@idempotent
def divide(x: int, y: int) -> int:
    """Return x divided by y, rounded down to an integer: 7 by 3 is 2, and -7 by 3 is -3."""
    return x // y
