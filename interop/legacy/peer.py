"""A process on compactor 0.3.0 for the interop tests: it says on stdout what it receives and sends what it is told.

Runs in the environment that `interop/install legacy` makes. The protocol is in `interop/README.md`.
"""

import json
import sys

from compactor.context import Context
from compactor.pid import PID
from compactor.process import Process


def say(event, pid, **details):
    """Print one event as a line of JSON."""
    print(json.dumps({"event": event, "pid": str(pid), **details}), flush=True)  # noqa: T201 - stdout is its door


class LegacyPeer(Process):
    """Records `Note`, `Question` and `Answer`, and answers a `Question` with an `Answer` of the same body."""

    @Process.install("Note")
    def note(self, from_pid, body):
        """Record, and that is all."""
        self.record("Note", from_pid, body)

    @Process.install("Question")
    def question(self, from_pid, body):
        """Record and answer."""
        self.record("Question", from_pid, body)
        self.send(from_pid, "Answer", body)

    @Process.install("Answer")
    def answer(self, from_pid, body):
        """Record, and that is all."""
        self.record("Answer", from_pid, body)

    def record(self, name, from_pid, body):
        """Say what came: the body is `<seq> <text>`."""
        seq, _, text = body.decode("ascii").partition(" ")
        say("got", from_pid, name=name, seq=int(seq), text=text)

    def exited(self, pid):
        """Say who is gone."""
        say("exited", pid)


def main():
    """Run one process on a context of its own until stdin ends."""
    context = Context(ip="127.0.0.1")
    context.start()
    peer = LegacyPeer("legacy(1)")
    context.spawn(peer)
    say("ready", peer.pid)
    for line in sys.stdin:
        command = json.loads(line)
        to = PID.from_string(command["to"])
        for seq in range(command["count"]):
            peer.send(to, command["name"], f"{seq} {command['text']}".encode("ascii"))


main()
