"""The other end of each protocol; the only code that dials."""
