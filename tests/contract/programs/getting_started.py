"""The manual's getting-started program, word for word below this line."""

import threading

from compactor import install, spawn, Process

class PingProcess(Process):
    def initialize(self):
        self.pinged = threading.Event()

    @install('ping')
    def ping(self, from_pid, body):
        self.pinged.set()

# construct the process
ping_process = PingProcess('ping_process')

# spawn the process, binding it to the current global context
spawn(ping_process)

# send a message to the process
client = Process('client')
spawn(client)
client.send(ping_process.pid, 'ping')

# ensure the message was delivered
ping_process.pinged.wait()
