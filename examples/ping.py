"""Two processes, a message and its answer: the shortest program that does something.

Start it with: python examples/ping.py
"""

import threading

from compactor import Context, Process, install


class Ponger(Process):
    @install("ping")  # makes the method callable by a message of this name, from anywhere
    def ping(self, from_pid, body):
        print(f"{self.pid} got ping from {from_pid}: {body.decode()}")
        self.send(from_pid, "pong", body)


class Pinger(Process):
    def __init__(self, ponger):
        super().__init__("pinger")
        self.ponger = ponger
        self.done = threading.Event()

    def initialize(self):  # called once, when the process is spawned and has its PID
        self.send(self.ponger, "ping", b"hello")

    @install("pong")
    def pong(self, from_pid, body):
        print(f"{self.pid} got pong from {from_pid}: {body.decode()}")
        self.done.set()


# Two contexts are two listening addresses: the messages between them go over the wire, as between two machines.
here = Context(ip="127.0.0.1")
there = Context(ip="127.0.0.1")
here.start()
there.start()

ponger = there.spawn(Ponger("ponger"))  # its PID is all that another process has to know
pinger = Pinger(ponger)
here.spawn(pinger)
pinger.done.wait(10)

here.stop()
there.stop()
