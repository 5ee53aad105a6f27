"""Sums, quadratic equations and chemical elements over XML-RPC.

[daemon]
rpc = daemons.rpcmath
port = 7001
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from functools import reduce
from itertools import chain
from typing import Any

from daemons import idempotent

__all__ = ["addtogether", "elements", "quadratic", "remote_repr"]

SYMBOLS = {1: "H", 2: "He", 3: "Li", 4: "Be", 5: "B", 6: "C", 7: "N", 8: "O", 9: "F", 10: "Ne"}

#: Linear-time concatenation, for arguments of a single type.
_JOINS: dict[type, Callable[[Iterable[Any]], Any]] = {
    str: "".join,
    bytes: b"".join,
    list: lambda lists: list(chain.from_iterable(lists)),
}


@idempotent
def addtogether(*things: Any) -> Any:
    """Add together everything in the list `things`."""
    if not things:
        raise ValueError("no arguments to add together")
    # Adding one by one would copy each intermediate result: quadratic in the size of the call.
    first = things[0]
    join = _JOINS.get(type(first))
    if join is not None:
        other = next((each for each in things if type(each) is not type(first)), None)
        if other is None:
            return join(things)
        operator.add(first, other)  # raise the TypeError before any sum is computed
    return reduce(operator.add, things)


@idempotent
def quadratic(a: float, b: float, c: float) -> list[float]:
    """Determine x values satisfying: a * x^2 + b * x + c == 0"""
    if not a:
        raise ValueError("a is 0, so the equation is not quadratic")
    discriminant = b * b - 4.0 * a * c
    if discriminant < 0:
        raise ValueError("math domain error")  # as math.sqrt() raises before Python 3.14
    root = math.sqrt(discriminant)
    solutions = {(-b - root) / (2.0 * a), (-b + root) / (2.0 * a)}
    if not all(map(math.isfinite, solutions)):
        raise OverflowError("math range error")
    return sorted(solutions)


@idempotent
def remote_repr(arg: Any) -> str:
    """Return the repr() rendering of the arg."""
    return repr(arg)


@idempotent
def elements() -> list[dict[str, Any]]:
    """Return the number and the symbol of each of the first ten chemical elements."""
    return [{"number": number, "symbol": symbol} for number, symbol in SYMBOLS.items()]
