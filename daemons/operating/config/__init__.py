"""From ini files and command lines to the settings of a daemon."""
