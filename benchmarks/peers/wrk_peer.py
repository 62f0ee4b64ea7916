"""wrk, which loads a web server; it is told where and what it found is told on."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request

from common import Run


def load(run: Run) -> None:
    """GET with 50 connections for some seconds; every answer has to be a 200, and one is looked at."""
    with urllib.request.urlopen(run.address, timeout=10) as answer:
        right = answer.read() == b"hello, world"
    run.wait_for_go()
    seconds = run.options.get("seconds", "2")
    libraries = os.environ.get("WRK_LIBRARIES")
    done = subprocess.run(
        [os.environ["WRK"], "-t", "1", "-c", "50", "-d", f"{seconds}s", "--latency", run.address],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_LIBRARY_PATH": libraries} if libraries else None,
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    requests = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    right = right and "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout
    if rate is None or requests is None:
        raise SystemExit(f"wrk said: {done.stdout}")
    values = {"requests_per_second": float(rate[1]), "requests": float(requests[1])}
    run.report(run.number, float(requests[2]), right, **values)
    run.wait_for_end()


if __name__ == "__main__":
    Run().play({"load": load})
