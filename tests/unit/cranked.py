"""A host for cells that is cranked by hand: no loop, no clock, no sockets, and everything is written down."""

from collections import deque

from compactor import PID, Process
from compactor._runtime.cell import Cell, InitializeEvent
from compactor._runtime.handlers import tables_of
from compactor._runtime.scheduler import Scheduler
from compactor.messages import Envelope

SENDER = PID("127.0.0.1", 9, "sender")


class Pause:
    """What an asynchronous handler returns: it goes on until the test calls `end`."""

    def __await__(self):
        raise AssertionError("nothing awaits here")

    def end(self, error=None):
        self.done(error)


class World:
    """Implements `Host`. A turn comes when a test calls `turn`, and only when it was asked for."""

    def __init__(self):
        self.context = object()
        self.interruptible = True
        self.now = 0.0
        self.asked = 0
        self.flushes = 0
        self.scheduler = Scheduler(lambda: self.now, self._ask, self._flush)
        self.enqueue = self.scheduler.enqueue
        self.borrow_mailbox = self.scheduler.borrow_mailbox
        self.return_mailbox = self.scheduler.return_mailbox
        self.log = []  # what the processes did
        self.letters = []  # (name, body length, reason)
        self.dropped = []  # (what, reason)
        self.errors = []  # (what, error)
        self.unhandled = []  # names
        self.forwarded = []
        self.ends = []  # (cell, reason)
        self.spawned = []  # what each spawn's `done` got

    def _ask(self):
        self.asked += 1

    def _flush(self):
        self.flushes += 1

    def turn(self):
        """Let the loop come round once, when that was asked for."""
        assert self.asked == 1, "a turn is asked for once until it comes"
        self.asked = 0
        self.scheduler.turn()

    def settle(self):
        """Let the loop come round until nobody asks for it; return how often."""
        turns = 0
        while self.asked:
            self.turn()
            turns += 1
            assert turns < 10_000, "it never settles"
        return turns

    # What tests do to cells:

    def cell(self, process):
        """Return the cell of a process that has not been initialized."""
        name = process._compactor_id
        cell = Cell(self, process, PID("127.0.0.1", 5050, name), tables_of(type(process)), "1")
        process._compactor_cell = cell
        process.world = self
        return cell

    def spawn(self, process):
        """Return the cell of a process that is initialized in a turn to come, as for a spawn from a thread."""
        cell = self.cell(process)
        cell.put((InitializeEvent(self.spawned.append), None))
        return cell

    def running(self, process):
        """Return the cell of a process that is initialized and idle."""
        cell = self.spawn(process)
        self.settle()
        self.spawned.clear()
        self.log.clear()
        return cell

    def post(self, cell, name, *bodies):
        """Queue messages for a cell."""
        envelope = Envelope(SENDER, cell.pid.id, name)
        for body in bodies or (b"",):
            cell.put((envelope, body))

    # Host:

    def step(self, awaitable, done):
        assert isinstance(awaitable, Pause)
        awaitable.done = done
        return False

    def undelivered(self, sender, to, name, size, reason):
        self.letters.append((name, size, reason))

    def event_dropped(self, cell, what, reason):
        self.dropped.append((what, reason))

    def no_handler(self, cell, envelope, body):
        self.unhandled.append(envelope.name)

    def forward(self, sender, to, name, body):
        self.forwarded.append((sender, to, name, body))

    def handler_raised(self, cell, what, sender, error):
        self.errors.append((what, error))

    def spawn_error(self, cell, reason):
        return RuntimeError(reason)

    def ended(self, cell, reason):
        self.ends.append((cell, reason))

    def terminate(self, cell, inject):
        cell.terminate("terminated", inject)


class Actor(Process):
    """Writes down what it handles in its world's log."""

    def __init__(self, name="actor"):
        super().__init__(name)
        self.pauses = deque()
        self.raises = None

    def note_down(self, *what):
        self.world.log.append((self._compactor_id, *what) if len(what) > 1 else what[0])

    def pause(self):
        self.pauses.append(Pause())
        return self.pauses[-1]

    @Process.install("note")
    def note(self, from_pid, body):
        self.note_down(body)

    @Process.install("wait")
    def wait(self, from_pid, body):
        self.note_down(b"wait " + body)
        return self.pause()

    @Process.install("fail")
    def fail(self, from_pid, body):
        raise self.raises

    @Process.install("end")
    def end(self, from_pid, body):
        self.note_down(b"end")
        self.terminate(inject=body != b"later")

    def called(self, value):
        self.note_down(value)

    def initialize(self):
        self.note_down("initialize")

    def exited(self, pid):
        self.note_down(("exited", pid, self.exit_reason))

    def finalize(self):
        self.note_down("finalize")
