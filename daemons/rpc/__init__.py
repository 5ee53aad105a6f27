"""Remote procedure calls: the published functions, and the protocols that carry calls to them."""
