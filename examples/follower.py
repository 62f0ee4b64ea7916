"""A follower: it registers with a leader, does the work it is given, and finds the leader again when that was away.

Start it with: python examples/follower.py leader@127.0.0.1:5050
"""

import argparse

from compactor import PID, Context, Process, install

SHORTEST_PAUSE = 0.2  # seconds until it asks again to be registered; doubled each time
LONGEST_PAUSE = 2.0


class Follower(Process):
    """Factors numbers for its leader."""

    def __init__(self, name, leader):
        super().__init__(name)
        self.leader = leader
        self.pause = SHORTEST_PAUSE
        self.retry = None

    def initialize(self):
        self.register()

    def register(self):
        # A message is delivered at most once, and there may be no leader yet: ask until there is an answer.
        print(f"registering with {self.leader}")
        self.send(self.leader, "register")
        self.retry = self.context.delay(self.pause, self.pid, "register")
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

    @install("registered")
    def registered(self, from_pid, body):
        self.retry.cancel()
        self.pause = SHORTEST_PAUSE
        self.link(from_pid)
        print(f"registered with {from_pid}")

    def exited(self, pid):
        print(f"exited {pid}: {self.exit_reason}")
        self.register()

    @install("work")
    def work(self, from_pid, body):
        number = int(body)
        # `reply` sends to the sender of the message that is being handled.
        self.reply("answer", f"{number} = {' x '.join(map(str, factors(number)))}".encode())


def factors(number):
    """Return the prime factors of a number; one of 10 digits takes some milliseconds."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 or not found else found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("leader", type=PID.from_string, help="the PID of the leader, as in leader@127.0.0.1:5050")
    parser.add_argument("--name", default="follower", help="the id of this process (default: %(default)s)")
    parser.add_argument("--ip", default="127.0.0.1", help="where to listen, on any free port (default: %(default)s)")
    options = parser.parse_args()
    context = Context(ip=options.ip)
    context.start()
    context.spawn(Follower(options.name, options.leader))
    try:
        context.join()
    except KeyboardInterrupt:
        context.stop()


if __name__ == "__main__":
    main()
