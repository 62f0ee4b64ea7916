"""Programs that run on while a test talks to them: `RunningProgram`."""

import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time

from helpers import DEADLINE, PACKAGE_ROOT

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


class RunningProgram:
    """A Python program as an OS process of its own, whose lines (of both outputs) a test waits for.

    Leaving the `with` block kills it when it still runs.
    """

    def __init__(self, *command):
        self.lines = []
        self._arriving = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", *map(str, command)],
            env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._arriving.put(line.rstrip())
        self._arriving.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.process.kill()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        self.process.stdout.close()

    def wait_for_line(self, pattern, timeout=DEADLINE):
        """Return the match of the next line in which `pattern` is found."""
        give_up = time.monotonic() + timeout
        while True:
            try:
                line = self._arriving.get(timeout=max(0.0, give_up - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no line with {pattern!r} in:\n" + "\n".join(self.lines)
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def end(self, with_signal=signal.SIGINT):
        """Send it a signal (by default what Ctrl-C sends) and return its exit status."""
        self.process.send_signal(with_signal)
        return self.process.wait(DEADLINE)
