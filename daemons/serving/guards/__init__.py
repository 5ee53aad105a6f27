"""Guards: access rules, limits, and the memory budget."""
