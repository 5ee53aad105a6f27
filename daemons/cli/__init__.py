"""The command ``daemons``, one module for each subcommand."""
