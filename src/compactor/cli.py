"""The command `compactor`: its options, and nothing that takes time before they are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

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
    bench = commands.add_parser(
        "bench",
        help="measure beside other libraries (in a source checkout); `bench --list` shows the cases",
        # With this prefix all that follows is an argument, for the benchmarks have options of their own.
        prefix_chars="\0",
        add_help=False,
    )
    bench.add_argument("arguments", nargs="*")
    return parser


def _bench(arguments: Sequence[str]) -> int:
    import os
    import subprocess

    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "benchmarks" / "driver.py").is_file():
        print(
            f"compactor bench: {checkout} has no benchmarks/: they are in the source checkout only; get that, "
            "and there run 'make bench' or its .venv/bin/compactor",
            file=sys.stderr,
        )
        return 2
    return subprocess.call(  # noqa: S603 - our own program, no shell
        [sys.executable, "-m", "benchmarks", *arguments], env={**os.environ, "PYTHONPATH": str(checkout)}
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (by default, that of this OS process) and return the exit status."""
    options = _parser().parse_args(arguments)
    if options.command == "bench":
        return _bench(options.arguments)
    # Imported late: --help and --version answer without it.
    from .demo import run

    return run(port=options.port, serve=options.serve)
