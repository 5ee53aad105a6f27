"""Sir Launcelot when his replies may not be remembered: what a service costs that cannot be declared pure."""

from __future__ import annotations

from daemons.launcelot import Launcelot


class ImpureLauncelot(Launcelot):
    """The same answers, found anew for every question."""

    pure = False
