"""`python -m compactor` is the command `compactor`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
