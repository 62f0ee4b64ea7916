"""A leader: followers register with it, get numbers to factor, and are missed at once when they die.

Start it with: python examples/leader.py --port 5050

Start followers beside it, open http://127.0.0.1:5050/leader, or give it a number of your own:

    curl -d 1234567890123 -H 'Libprocess-From: me@127.0.0.1:1' http://127.0.0.1:5050/leader/factor
"""

import argparse
import collections
import itertools
import pathlib

from compactor import Context, Process, install, route

PAGE = pathlib.Path(__file__).with_name("leader.html").read_text(encoding="utf-8")
PAUSE = 0.5  # seconds between two rounds of work


class Leader(Process):
    """Gives each idle follower a number, and the number of a dead follower to the next one."""

    def __init__(self):
        super().__init__("leader")
        self.followers = {}  # PID of each follower -> the number that it works on, or None
        self.waiting = collections.deque()  # numbers that were asked for, or lost with a follower
        self.numbers = itertools.count(1_234_567_890)  # what to do when nothing is waiting
        self.answers = collections.Counter()  # PID of each follower there ever was -> its answers
        self.latest = collections.deque(maxlen=10)
        self.exits = []

    def initialize(self):
        print(f"listening {self.pid}")
        self.hand_out()

    @install("register")
    def register(self, from_pid, body):
        # A follower that is not sure registers again: it keeps what it has, and is told once more.
        if from_pid not in self.followers:
            self.followers[from_pid] = None
            print(f"registered {from_pid}")
        # From now on `exited` is called when the follower, its machine or the connection to it is gone.
        self.link(from_pid)
        self.send(from_pid, "registered")

    def exited(self, pid):
        print(f"exited {pid}: {self.exit_reason}")
        self.exits.append({"pid": str(pid), "reason": self.exit_reason})
        number = self.followers.pop(pid, None)
        if number is not None:
            self.waiting.appendleft(number)

    def hand_out(self):
        for follower, busy in self.followers.items():
            if busy is None:
                number = self.waiting.popleft() if self.waiting else next(self.numbers)
                self.followers[follower] = number
                self.send(follower, "work", str(number).encode())
                print(f"work {number} -> {follower}")
        # A handler never sleeps: it would hold up every process of this context. It is called again later.
        self.context.delay(PAUSE, self.pid, "hand_out")

    @install("answer")
    def answer(self, from_pid, body):
        if self.followers.get(from_pid) is None:
            return  # somebody whom we gave no work
        self.followers[from_pid] = None
        self.answers[from_pid] += 1
        self.latest.appendleft({"pid": str(from_pid), "text": body.decode()})
        print(f"answer {body.decode()} <- {from_pid}")

    @install("factor")
    def factor(self, from_pid, body):
        self.waiting.append(int(body))  # when this raises, the error is logged and the next message is handled

    @route("/")
    def page(self, handler):
        handler.write(PAGE)

    @route("/state")
    def state(self, handler):
        # `handler` is a tornado RequestHandler, which writes a dict as JSON.
        handler.write(
            {
                "pid": str(self.pid),
                "followers": [
                    {"pid": str(pid), "answers": self.answers[pid], "number": number}
                    for pid, number in self.followers.items()
                ],
                "answers": self.answers.total(),
                "latest": list(self.latest),
                "exits": self.exits,
                "statistics": self.context.statistics(),
            }
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ip", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, help="on which port (default: any free one)")
    options = parser.parse_args()
    context = Context(ip=options.ip, port=options.port)
    context.start()
    context.spawn(Leader())
    try:
        context.join()
    except KeyboardInterrupt:
        context.stop()


if __name__ == "__main__":
    main()
