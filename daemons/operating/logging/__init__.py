"""The logging shared by all daemons: lines, access logs, log files."""
