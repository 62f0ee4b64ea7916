"""What the tests with foreign peers share: a peer as a child process, and processes of ours that record."""

import json
import queue
import signal
import subprocess
import threading

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from helpers import DEADLINE

from compactor import PID, Process, ProtobufProcess


class Peer:
    """A foreign peer as an OS process: it is told what to send, and what it says is queued for the test.

    The protocol is described in `interop/README.md`.
    """

    def __init__(self, command):
        self._events = queue.SimpleQueue()
        self._complaints = []
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._readers = [threading.Thread(target=read) for read in (self._read_events, self._read_complaints)]
        for reader in self._readers:
            reader.start()

    def wait_until_ready(self):
        """Wait until the peer listens, and learn its PID."""
        self.pid = PID.from_string(self.take("ready")["pid"])

    def _read_events(self):
        for line in self._child.stdout:
            self._events.put(json.loads(line))

    def _read_complaints(self):
        self._complaints.extend(self._child.stderr)

    def take(self, event):
        """Return what the peer says next; fail when that is not `event`."""
        said = self._events.get(timeout=DEADLINE)
        assert said["event"] == event, said
        return said

    def take_messages(self, count):
        """Return the next `count` messages that the peer received, as (sender, name, seq, text)."""
        said = (self.take("got") for _ in range(count))
        return [(PID.from_string(each["pid"]), each["name"], each["seq"], each["text"]) for each in said]

    def send(self, to, name, count=1, text="text"):
        """Make the peer send `count` messages, numbered from 0."""
        self._child.stdin.write(json.dumps({"to": str(to), "name": name, "count": count, "text": text}) + "\n")
        self._child.stdin.flush()

    def pause(self):
        """Stop the peer with SIGSTOP: its kernel goes on accepting for it, but it answers nothing."""
        self._child.send_signal(signal.SIGSTOP)

    def resume(self):
        """Let the peer run again."""
        self._child.send_signal(signal.SIGCONT)

    def kill(self):
        """Kill the peer with SIGKILL; return what it wrote to stderr. What it said before can still be taken."""
        self._child.kill()
        self._child.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            pipe.close()
        return "".join(self._complaints)


def _build_messages():
    file = descriptor_pb2.FileDescriptorProto(name="interop.proto", package="mesos.internal", syntax="proto2")
    field = descriptor_pb2.FieldDescriptorProto
    for name in ("Note", "Question", "Answer", "Unheard"):
        message = file.message_type.add(name=name)
        message.field.add(name="seq", number=1, type=field.TYPE_INT64, label=field.LABEL_REQUIRED)
        message.field.add(name="text", number=2, type=field.TYPE_STRING, label=field.LABEL_REQUIRED)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"mesos.internal.{each.name}"))
        for each in file.message_type
    ]


Note, Question, Answer, Unheard = _build_messages()


class _Recording:
    """Queues what a process gets and who is gone, for the test to take."""

    def __init__(self, name):
        super().__init__(name)
        self._seen = queue.SimpleQueue()

    def take(self, count=1):
        """Return the next `count` things that happened: (sender, name, seq, text) or (pid, "exited")."""
        return [self._seen.get(timeout=DEADLINE) for _ in range(count)]

    def is_quiet_for(self, seconds):
        """Return whether nothing happens for so long: waiting for what must not happen has no other end."""
        try:
            self._seen.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def exited(self, pid):
        self._seen.put((pid, "exited"))


class ProtobufRecorder(_Recording, ProtobufProcess):
    """Our counterpart of the Go peer: records all three messages and answers a `Question`."""

    @ProtobufProcess.install(Note)
    def note(self, from_pid, message):
        self._seen.put((from_pid, "Note", message.seq, message.text))

    @ProtobufProcess.install(Answer)
    def answer(self, from_pid, message):
        self._seen.put((from_pid, "Answer", message.seq, message.text))

    @ProtobufProcess.install(Question)
    def question(self, from_pid, message):
        self._seen.put((from_pid, "Question", message.seq, message.text))
        self.send(from_pid, Answer(seq=message.seq, text=message.text))


class Recorder(_Recording, Process):
    """Our counterpart of the 0.3.0 peer, with bodies of the form `<seq> <text>`."""

    def _record(self, name, from_pid, body):
        seq, _, text = body.decode().partition(" ")
        self._seen.put((from_pid, name, int(seq), text))

    @Process.install("Note")
    def note(self, from_pid, body):
        self._record("Note", from_pid, body)

    @Process.install("Answer")
    def answer(self, from_pid, body):
        self._record("Answer", from_pid, body)

    @Process.install("Question")
    def question(self, from_pid, body):
        self._record("Question", from_pid, body)
        self.send(from_pid, "Answer", body)
