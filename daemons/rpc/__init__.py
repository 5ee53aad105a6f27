"""Remote procedure calls: what functions are published, and the protocols that carry their calls."""
