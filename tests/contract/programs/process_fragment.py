"""The manual's fragment on processes; added: the import of threading, and a context to run it on."""
import threading

from compactor.process import Process

class PingProcess(Process):
    def initialize(self):
        super(PingProcess, self).initialize()
        self.pinged = threading.Event()

    @Process.install('ping')
    def ping(self, from_pid, body):
        self.pinged.set()

# added
from compactor.context import Context

context = Context(ip='127.0.0.1')
ping = PingProcess('ping')
client = Process('client')
context.spawn(ping)
context.spawn(client)
client.send(ping.pid, 'ping')
assert ping.pinged.wait(20)
