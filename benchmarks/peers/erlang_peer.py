"""Erlang/OTP distribution: becomes a node that runs `bench_peer.erl`, with a port mapper of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from common import Run

SOURCE = Path(__file__).with_name("bench_peer.erl")
COMPILED = Path(__file__).resolve().parents[2] / ".bench" / "erlang-beam"
MAPPER_SECONDS = 10.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start_mapper(binaries: Path) -> int:
    """Start epmd, which ends with our group of processes; return its port when it listens."""
    port = _free_port()
    subprocess.Popen(
        [str(binaries / "epmd"), "-port", str(port), "-address", "127.0.0.1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + MAPPER_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        else:
            return port


def main(run: Run) -> None:
    """Compile when there is need, and become the node."""
    root, binaries = Path(os.environ["ERLANG_ROOT"]), Path(os.environ["ERLANG_BIN"])
    port, _, node = run.address.partition(" ")
    variables = {
        **os.environ,
        "ROOTDIR": str(root),
        "BINDIR": str(binaries),
        "EMU": "beam",
        "PROGNAME": "erl",
        "ERL_EPMD_PORT": port or str(_start_mapper(binaries)),
        "ERL_CRASH_DUMP_SECONDS": "0",
    }
    emulator = [str(binaries / "erlexec"), "-noshell", "-boot", str(root / "bin" / "start_clean")]
    beam = COMPILED / "bench_peer.beam"
    if not beam.is_file() or beam.stat().st_mtime < SOURCE.stat().st_mtime:
        COMPILED.mkdir(parents=True, exist_ok=True)
        compile_it = f'{{ok, _}} = compile:file("{SOURCE}", [{{outdir, "{COMPILED}"}}]), halt(0).'
        subprocess.run([*emulator, "-eval", compile_it], env=variables, stdin=subprocess.DEVNULL, check=True)
    name = f"{run.role}{os.getpid()}@localhost"
    network = ["-sname", name, "-setcookie", "bench", "-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
    what = [run.role, str(run.number), str(run.size), node or "none", run.options.get("in_flight", "1")]
    command = [*emulator, "-pa", str(COMPILED), *network, "-run", "bench_peer", "main", *what]
    sys.stdout.flush()
    os.execve(command[0], command, variables)


if __name__ == "__main__":
    main(Run())
