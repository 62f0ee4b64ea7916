"""Users' classes may call their attributes and methods what they like: nothing of the base class collides."""

import asyncio
import dataclasses
import threading

import pytest
from helpers import DEADLINE, Recorder, eventually, post, request, wait_for
from proto import RequestMessage

from compactor import Process, ProtobufProcess, install

ATTRIBUTES = [
    "lock", "connected", "status", "driver", "name", "mailbox", "loop", "state", "id", "ip", "port", "address",
    "queue", "links", "handlers", "routes", "running", "started", "stopped", "terminated", "exit_reason", "message",
    "sender", "timer", "clock", "log", "logger", "cell", "host", "runtime", "owner", "delegates", "metrics",
    "statistics", "reply", "ask", "delegate", "dispatch", "delay", "finalize", "thread", "_context", "_pid", "_name",
    "_lock", "_cell", "_loop", "_mailbox", "_links", "_handlers", "_delegates", "_state", "_host", "_process",
]  # fmt: skip


@pytest.mark.parametrize("base", [Process, ProtobufProcess])
@pytest.mark.parametrize("when", ["before", "after"])
def test_attributes_of_any_name_keep_their_values_and_disturb_nothing(context, base, when):
    class Crowded(base):
        def __init__(self, values, seen):
            if when == "before":
                self.set_all(values)
            super().__init__("crowded")
            if when == "after":
                self.set_all(values)
            self.seen_events = seen

        def set_all(self, values):
            for name, value in values.items():
                setattr(self, name, value)

        @Process.install("work")
        def work(self, from_pid, body):
            self.seen_events["work"].set()
            self.send(self.pid, *([RequestMessage()] if base is ProtobufProcess else ["sent", b"x"]))

        @ProtobufProcess.install(RequestMessage)
        def typed(self, from_pid, message):
            self.seen_events["sent"].set()

        @Process.install("sent")
        def sent(self, from_pid, body):
            self.seen_events["sent"].set()

        @Process.route("/page")
        def page(self, handler):
            handler.write("page")

        def dispatched(self):
            self.seen_events["dispatched"].set()

        def exited(self, pid):
            self.seen_events["exited"].set()

    values = {name: object() for name in ATTRIBUTES}
    seen = {name: threading.Event() for name in ("work", "sent", "dispatched", "exited")}
    crowded, friend = Crowded(values, seen), Process("friend")
    pid = context.spawn(crowded)
    friend_pid = context.spawn(friend)
    friend.send(pid, "work")
    crowded.link(friend_pid)
    context.dispatch(pid, "dispatched")
    friend.terminate()
    for event in seen.values():
        wait_for(event)
    assert request(pid, "/crowded/page").body == b"page"
    assert {name: crowded.__dict__[name] for name in ATTRIBUTES} == values
    crowded.terminate()
    assert context.wait(pid, DEADLINE)
    assert {name: crowded.__dict__[name] for name in ATTRIBUTES} == values
    assert context.statistics()["handler_errors"] == 0


def test_what_the_base_class_keeps_on_an_instance_is_little_and_private(context):
    process = Process("process")
    context.spawn(process)
    public = {name for name in vars(process) if not name.startswith("_")}
    assert public <= {"name"}
    assert len(vars(process)) <= 4


def test_methods_that_the_manual_does_not_use_are_the_users_to_define(context):
    calls = []

    class Busy(Recorder):
        @install("reply")
        def reply(self, from_pid, body):
            calls.append("reply")

        @install("ask")
        def ask(self, from_pid, body):
            calls.append("ask")

        @install("delegate_to")
        def delegate_to(self, from_pid, body):
            calls.append("delegate_to")

        def finalize(self, driver):
            raise AssertionError("called by the library")

        def dispatch(self, anything):
            raise AssertionError("called by the library")

        delay = delegate = wait = stop = start = run = handle = receive = close = dispatch
        on_message = deliver = enqueue = consume = serve = visit = timeout = bind = unbind = dispatch

    busy, friend = Busy("busy"), Recorder("friend")
    pid, friend_pid = context.spawn(busy), context.spawn(friend)
    for name in ("reply", "ask", "delegate_to", "unknown"):
        assert post(pid, name, sender=friend_pid) == 202
    busy.link(friend_pid)
    friend.terminate()
    busy.take_exit()
    busy.send(pid, "fence")
    assert busy.take()[0] == "fence"
    busy.terminate()
    assert context.wait(pid, DEADLINE)
    assert calls == ["reply", "ask", "delegate_to"]
    assert context.statistics()["handler_errors"] == 0


@pytest.mark.parametrize("kind", ["handler", "required argument", "coroutine with an argument"])
def test_a_finalize_of_the_users_own_is_not_called_at_the_end(context, kind):
    calls = []

    class Handler(Process):
        @install("finalize")
        def finalize(self, from_pid, body):
            calls.append(body)

    class Argument(Process):
        def finalize(self, driver):
            calls.append(driver)

    class Coroutine(Process):
        async def finalize(self, driver):
            calls.append(driver)

    process = {"handler": Handler, "required argument": Argument, "coroutine with an argument": Coroutine}[kind]("p")
    pid = context.spawn(process)
    process.terminate()
    assert context.wait(pid, DEADLINE)
    assert calls == []
    assert context.statistics()["handler_errors"] == 0


def test_a_finalize_without_arguments_is_called_at_the_end(context):
    finalized = []

    class Plain(Process):
        def finalize(self):
            finalized.append("plain")

    class Optional(Process):
        def finalize(self, force=False):
            finalized.append("optional")

    class Coroutine(Process):
        async def finalize(self):
            await asyncio.sleep(0)
            finalized.append("coroutine")

    for process in (Plain("plain"), Optional("optional"), Coroutine("coroutine")):
        pid = context.spawn(process)
        process.terminate()
        assert context.wait(pid, DEADLINE)
    assert finalized[0] == "plain"
    assert finalized[-1] == "coroutine"


def test_a_dataclass_can_be_a_process(context):
    @dataclasses.dataclass
    class Data(Process):
        label: str
        notes: list = dataclasses.field(default_factory=list)

        def __post_init__(self):
            super().__init__(self.label)

        @install("note")
        def note(self, from_pid, body):
            self.notes.append(body)

    data = Data("data")
    pid = context.spawn(data)
    data.send(pid, "note", b"x")
    assert eventually(lambda: data.notes) == [b"x"]
    data.terminate()
    assert context.wait(pid, DEADLINE)


def test_a_process_that_forgot_super_init_is_refused_with_an_error_that_says_so(context):
    class Forgetful(Process):
        def __init__(self):
            self.ready = True

    with pytest.raises(Exception, match=r"(?i)__init__"):
        context.spawn(Forgetful())
