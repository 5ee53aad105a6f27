"""Benchmarks of the suite and of comparable servers: `python -m benchmarks`, described in README.md."""
