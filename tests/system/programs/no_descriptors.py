"""Links when there is no descriptor left for a connection, and prints why the linkee is gone."""

import os
import queue
import resource

from compactor import PID, Context, Process

reasons = queue.SimpleQueue()


class Linker(Process):
    def exited(self, pid):
        reasons.put(self.exit_reason)


context = Context(ip="127.0.0.1")
linker = Linker("linker")
context.spawn(linker)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest_free = os.dup(0)
os.close(lowest_free)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
linker.link(PID("127.0.0.1", 9, "linkee"))
reason = reasons.get(timeout=20)
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
print(reason)
context.stop()
