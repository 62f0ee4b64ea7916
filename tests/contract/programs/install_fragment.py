"""The manual's fragment on installed methods; added: a body for the handler, and a context to run it on."""

from compactor.process import Process

class PingProcess(Process):
    @Process.install('ping')
    def ping(self, from_pid, body):
        # do something
        calls.put((from_pid, body))

# added
import queue

from compactor.context import Context

calls = queue.SimpleQueue()
context = Context(ip='127.0.0.1')
ping_pid = context.spawn(PingProcess('ping'))
client = Process('client')
context.spawn(client)
client.send(ping_pid, 'ping', b'hello')
client.send(ping_pid, 'ping')
assert calls.get(timeout=20) == (client.pid, b'hello')
assert calls.get(timeout=20) == (client.pid, b'')
