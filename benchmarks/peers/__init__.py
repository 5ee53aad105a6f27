"""The same daemon as others would write it: one file, one way; `python -m benchmarks.peers.NAME` runs it."""
