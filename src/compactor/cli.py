"""The command `compactor`: its options, and nothing that takes time before they are read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ._version import VERSION


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 1 to 65535")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compactor", description="Actors that speak the libprocess wire protocol.")
    parser.add_argument("--version", action="version", version=f"compactor {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="a leader and three followers at work, killed and found again",
        description="Run a leader and three followers, each an OS process of its own; kill some and show what happens.",
        epilog="The exit status is 0 when everything expected was seen.",
    )
    demo.add_argument("--serve", action="store_true", help="keep running, with a page of the live state, until Ctrl-C")
    demo.add_argument("--port", type=_port, help="the leader's port (default: the first free one from 5050)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (by default, that of this OS process) and return the exit status."""
    options = _parser().parse_args(arguments)
    # Imported late: --help and --version answer without it.
    from .demo import run

    return run(port=options.port, serve=options.serve)
