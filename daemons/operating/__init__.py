"""Operation of a daemon: settings from ini files, loading of the target, logging, metrics, lifecycle."""
