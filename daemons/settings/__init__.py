"""The types of settings, and complaints about their values."""
