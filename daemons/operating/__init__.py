"""What surrounds the servers: settings from ini files, shared logging, lifecycle, the command line."""
