"""The command ``daemons``: one module for each of its commands."""
