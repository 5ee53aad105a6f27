"""Sums, quadratic equations and the chemical elements, over XML-RPC.

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

#: Sums of things that are all of one type, in linear time.
_JOINS: dict[type, Callable[[Iterable[Any]], Any]] = {
    str: "".join,
    bytes: b"".join,
    list: lambda lists: list(chain.from_iterable(lists)),
}


@idempotent
def addtogether(*things: Any) -> Any:
    """Add together everything in the list `things`."""
    if not things:
        raise ValueError("there is nothing to add together")
    # Added one by one, each sum would be copied for the next: quadratic in the size of a call.
    first = things[0]
    join = _JOINS.get(type(first))
    if join is not None:
        other = next((each for each in things if type(each) is not type(first)), None)
        if other is None:
            return join(things)
        operator.add(first, other)  # raises TypeError, before the sum of all in front of it is made
    return reduce(operator.add, things)


@idempotent
def quadratic(a: float, b: float, c: float) -> list[float]:
    """Determine x values satisfying: a * x^2 + b * x + c == 0"""
    if not a:
        raise ValueError("a is 0: that is no quadratic equation")
    discriminant = b * b - 4.0 * a * c
    if discriminant < 0:
        raise ValueError("math domain error")  # Python says so itself, in other words from 3.14 on
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
    """The first chemical elements: of each its number and its symbol."""
    return [{"number": number, "symbol": symbol} for number, symbol in SYMBOLS.items()]
