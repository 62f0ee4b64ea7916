"""The manual's fragment on contexts; added: the process of an earlier fragment, a client and a stop."""
import threading

from compactor.process import Process

class PingProcess(Process):
    def initialize(self):
        super(PingProcess, self).initialize()
        self.pinged = threading.Event()

    @Process.install('ping')
    def ping(self, from_pid, body):
        self.pinged.set()

from compactor.context import Context

context = Context(ip='127.0.0.1', port=8081)
context.start()

ping_process = PingProcess('ping')
ping_pid = context.spawn(ping_process)

# added
assert str(ping_pid) == 'ping@127.0.0.1:8081'
client = Process('client')
context.spawn(client)
client.send(ping_pid, 'ping')
assert ping_process.pinged.wait(20)
threading.Thread(target=context.stop).start()

context.join()
