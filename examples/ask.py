"""Ask and wait for the answer: in a handler, in a thread, and what happens when nobody answers.

Start it with: python examples/ask.py
"""

from compactor import PID, Context, Process, install
from compactor.errors import AskError


class Adder(Process):
    """Knows nothing of `ask`: it answers the sender that it sees, as any libprocess peer does."""

    @install("add")
    def add(self, from_pid, body):
        self.send(from_pid, "sum", str(sum(map(int, body.split()))).encode())


class Average(Process):
    """Asks another process before it answers."""

    def __init__(self, adder):
        super().__init__("average")
        self.adder = adder

    @install("average")
    async def average(self, from_pid, body):
        # This process handles nothing else until the answer is there; the others of its context go on.
        answer = await self.ask(self.adder, "add", body, timeout=5)
        self.reply("is", str(int(answer.body) / len(body.split())).encode())


context = Context(ip="127.0.0.1")
context.start()
adder = context.spawn(Adder("adder"))
average = context.spawn(Average(adder))
client = Process("client")
context.spawn(client)

# In a thread, and so in the main program, `ask` gives a future to wait on.
answer = client.ask(average, "average", b"3 4 8").result()
print(f"{answer.sender} says: the average {answer.name} {answer.body.decode()}")

# When the target is known to be gone the error comes at once and says why; otherwise after the timeout.
try:
    client.ask(PID("127.0.0.1", adder.port, "nobody"), "add", b"1 2", timeout=5).result()
except AskError as error:
    print(f"no answer: {error.reason}")

context.stop()
