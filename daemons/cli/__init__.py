"""The command ``daemons``: its parser, its exit codes, and the subcommands that are not in `daemons.clients`."""
