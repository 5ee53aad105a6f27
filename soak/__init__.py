"""Soak test: valid and hostile load on all daemons at once, and the conditions that must hold afterwards.  Run by
`make soak`, described in docs/soak.md."""
