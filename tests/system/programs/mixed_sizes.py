"""Sends messages of mixed sizes, or checks that all of those that others send arrive whole and in order.

`receive SENDERS NUMBER` prints its PID, and when NUMBER messages of each sender are there, "all in order".
`send PID ID NUMBER PLACE` sends them as process ID, "from-a-thread" or "from-handlers".
"""

import random
import sys
from itertools import islice

from compactor import PID, Context, Process, install

FILLER = bytes(range(256)) * 20
BATCH = 100


def bodies(id_, number):
    """Yield what the sender `id_` sends: the same in every OS process."""
    sizes = random.Random(id_)
    for count in range(number):
        yield (b"%d " % count + FILLER)[: int(5001 * sizes.random() ** 2)]


class Receiver(Process):
    """Checks everything, and stops its context at the end or at the first fault."""

    def __init__(self, senders, number):
        super().__init__("receiver")
        self.awaited = senders * number
        self.expected = {}
        self.number = number

    @install("note")
    def note(self, from_pid, body):
        expected = self.expected.get(from_pid)
        if expected is None:
            expected = self.expected[from_pid] = bodies(from_pid.id, self.number)
        if body != next(expected, None):
            self.end(f"lost or out of order, with {self.awaited} to come: {body[:10]!r} from {from_pid}")
        self.awaited -= 1
        if not self.awaited:
            self.end("all in order")

    def end(self, words):
        print(words, flush=True)
        self.context.stop()


class Sender(Process):
    """Sends a batch in each of its events."""

    def __init__(self, id_, to, number):
        super().__init__(id_)
        self.to = to
        self.bodies = bodies(id_, number)

    def send_some(self):
        batch = list(islice(self.bodies, BATCH))
        for body in batch:
            self.send(self.to, "note", body)
        if batch:
            self.context.dispatch(self.pid, "send_some")
        else:
            self.terminate()


def main():
    role, *arguments = sys.argv[1:]
    context = Context(ip="127.0.0.1", grace=60.0)
    if role == "receive":
        print(context.spawn(Receiver(*map(int, arguments))), flush=True)
        context.join()
        return
    to, id_, number, where = arguments
    sender = Sender(id_, PID.from_string(to), int(number))
    pid = context.spawn(sender)
    if where == "from-handlers":
        context.dispatch(sender.pid, "send_some")
    else:
        for body in bodies(id_, int(number)):
            sender.send(sender.to, "note", body)
        sender.terminate()
    context.wait(pid)
    context.stop()


main()
