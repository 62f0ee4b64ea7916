"""The manual's leader/follower program, word for word below this line."""

import threading
import uuid
from compactor import install
from compactor.process import Process

class Leader(Process):
    def __init__(self):
        super(Leader, self).__init__('leader')
        self.followers = set()

    @install('register')
    def register(self, from_pid, uuid):
        self.send(from_pid, 'registered', uuid)

class Follower(Process):
    def __init__(self, name, leader_pid):
        super(Follower, self).__init__(name)
        self.leader_pid = leader_pid
        self.uuid = uuid.uuid4().bytes
        self.registered = threading.Event()

    def initialize(self):
        super(Follower, self).initialize()
        self.send(self.leader_pid, 'register', self.uuid)

    def exited(self, from_pid):
        self.registered.clear()

    @install('registered')
    def registered(self, from_pid, uuid):
        if uuid == self.uuid:
            self.link(from_pid)
            self.registered.set()

from compactor import Context

leader_context = Context(port=5051)
leader = Leader()
leader_context.spawn(leader)

# at this point, leader_context.pid is a unique identifier for this leader process
# and can be disseminated via service discovery or passed explicitly to other services,
# e.g. 'leader@192.168.33.2:5051'. the follower can be spawned in the same process,
# in a separate process, or on a separate machine.

follower_context = Context()
follower = Follower('follower1', leader_context.pid)
follower_context.spawn(follower)

follower.registered.wait()
