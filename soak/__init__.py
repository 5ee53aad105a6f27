"""Honest and hostile load on every daemon at once, and what must be true afterwards: `make soak`, explained in
docs/soak.md."""
