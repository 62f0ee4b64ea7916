"""A context with processes to link to, as an OS process that does what messages tell it.

Arguments: how many processes (they are called linkee0, linkee1, ...), and the port (0 for any). Prints the port.
"""

import sys

from compactor import Context, Process, install


class Linkee(Process):
    @install("ping")
    def ping(self, from_pid, body):
        self.reply("pong")

    @install("end")
    def end(self, from_pid, body):
        self.terminate()

    @install("stop")
    def stop(self, from_pid, body):
        self.context.stop()


number, port = map(int, sys.argv[1:])
context = Context(ip="127.0.0.1", port=port)
for index in range(number):
    context.spawn(Linkee(f"linkee{index}"))
print(f"listens on {context.port}")
context.join()
