"""The version of this release, as `Server` headers and the command line say it."""

from typing import Final

VERSION: Final = "1.0.0"
