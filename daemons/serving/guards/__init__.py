"""Guards: access rules, limits, admission, pauses of accepting, packet loops, and the memory budget."""
