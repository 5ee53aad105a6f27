"""Sir Launcelot without cached replies: the cost of a service that cannot be declared pure."""

from __future__ import annotations

from daemons.launcelot import Launcelot


class ImpureLauncelot(Launcelot):
    """The same replies, computed for every question."""

    pure = False
