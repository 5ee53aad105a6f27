"""A calculator for whole numbers, over XML-RPC.

[daemon]
rpc = daemons.calc
port = 8000
"""

from __future__ import annotations

from daemons import idempotent

__all__ = ["add", "divide", "multiply", "subtract"]


@idempotent
def add(x: int, y: int) -> int:
    """Adds x and y."""
    return x + y


@idempotent
def subtract(x: int, y: int) -> int:
    """Takes y away from x."""
    return x - y


@idempotent
def multiply(x: int, y: int) -> int:
    """Multiplies x by y."""
    return x * y


@idempotent
def divide(x: int, y: int) -> int:
    """Divides x by y, and rounds down to a whole number: 7 by 3 is 2, and -7 by 3 is -3."""
    return x // y
