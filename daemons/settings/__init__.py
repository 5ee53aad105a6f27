"""Field types of settings, and complaints about wrong values."""
