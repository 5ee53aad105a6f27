"""Tells the lengths of what it is given, over JSON-RPC.

[daemon]
jsonrpc = daemons.jsonrpc
port = 7002
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from daemons import idempotent

__all__ = ["lengths"]


@idempotent
def lengths(*args: Any) -> list[Any]:
    """The length of each argument, and the argument; null for what has no length, as a number."""
    return [[len(arg) if isinstance(arg, Sized) else None, arg] for arg in args]
