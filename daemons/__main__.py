"""``python -m daemons`` is the command ``daemons``."""

import sys

from daemons.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
