"""`ProtobufProcess`: typed handlers and sends, raw ones beside them, and bodies that do not parse."""

import asyncio
import queue

import pytest
from google.protobuf.message import EncodeError
from helpers import DEADLINE, RawPeer, Recorder, eventually, post
from proto import RegisteredMessage, RegisterMessage, RequestMessage, ResponseMessage

from compactor import PID, Process, ProtobufProcess, install


class Typed(ProtobufProcess):
    """Queues what its handlers get."""

    def __init__(self, name="typed"):
        super().__init__(name)
        self.seen = queue.SimpleQueue()

    @ProtobufProcess.install(RequestMessage)
    def request(self, from_pid, message):
        self.seen.put((from_pid, message))

    @ProtobufProcess.install(RegisterMessage)
    def register(self, from_pid, message):
        self.seen.put((from_pid, message))

    @Process.install("raw")
    def raw(self, from_pid, body):
        self.seen.put((from_pid, body))

    @install("also-raw")
    def also_raw(self, from_pid, body):
        self.seen.put((from_pid, body))

    def take(self):
        return self.seen.get(timeout=DEADLINE)


REQUEST = RequestMessage.DESCRIPTOR.full_name
REGISTER = RegisterMessage.DESCRIPTOR.full_name


@pytest.mark.clause("ProtobufProcess.install", "ProtobufProcess.send")
@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize(
    "message",
    [RequestMessage(), RequestMessage(text="text", numbers=[1, 2]), RegisterMessage(framework="f", attempt=2)],
)
def test_a_sent_protobuf_arrives_as_an_equal_protobuf_of_its_type(context, other_context, where, message):
    receiver, sender = Typed("receiver"), Typed("sender")
    context.spawn(receiver)
    (context if where == "local" else other_context).spawn(sender)
    assert sender.send(receiver.pid, message) is None
    from_pid, received = receiver.take()
    assert from_pid == sender.pid
    assert received == message
    assert type(received) is type(message)


def test_a_protobuf_travels_under_the_full_name_of_its_type(context):
    sender = Typed()
    context.spawn(sender)
    with RawPeer() as peer:
        message = RequestMessage(text="x")
        sender.send(peer.pid("them"), message)
        assert peer.take() == (sender.pid, f"/them/{REQUEST}", message.SerializeToString())


def test_changing_a_protobuf_after_send_does_not_change_what_was_sent(context):
    receiver = Typed()
    context.spawn(receiver)
    message = RequestMessage(text="before")
    receiver.send(receiver.pid, message)
    message.text = "after"
    assert receiver.take()[1].text == "before"


def test_each_handler_gets_a_protobuf_of_its_own(context):
    receiver = Typed()
    context.spawn(receiver)
    for _ in range(2):
        receiver.send(receiver.pid, RequestMessage(text="x"))
    first, second = receiver.take()[1], receiver.take()[1]
    first.text = "changed"
    assert second.text == "x"


@pytest.mark.clause("ProtobufProcess.send UnboundProcess")
def test_sending_from_an_unbound_protobuf_process_is_refused():
    with pytest.raises(Process.UnboundProcess):
        Typed().send(PID("127.0.0.1", 9, "to"), RequestMessage())


def test_sending_a_protobuf_that_lacks_a_required_field_is_an_error_of_the_sender(context):
    typed = Typed()
    context.spawn(typed)
    with pytest.raises((ValueError, EncodeError), match="framework"):
        typed.send(typed.pid, RegisterMessage())


@pytest.mark.parametrize("message", [b"bytes", None, 5, object(), RequestMessage])
def test_sending_something_that_is_neither_a_protobuf_nor_a_name_is_a_type_error(context, message):
    typed = Typed()
    context.spawn(typed)
    with pytest.raises(TypeError):
        typed.send(typed.pid, message)


@pytest.mark.parametrize("message_type", [b"name", None, object, Process, RequestMessage()])
def test_installing_something_that_is_no_protobuf_type_is_a_type_error(message_type):
    with pytest.raises(TypeError):
        ProtobufProcess.install(message_type)(lambda self, from_pid, message: None)


@pytest.mark.parametrize("name", ["raw", "also-raw"])
def test_raw_sends_and_plain_installs_work_on_a_protobuf_process_too(context, name):
    receiver, sender, plain = Typed("receiver"), Typed("sender"), Process("plain")
    for process in (receiver, sender, plain):
        context.spawn(process)
    sender.send(receiver.pid, name, b"from a protobuf process")
    sender.send(receiver.pid, name)
    plain.send(receiver.pid, name, b"from a plain one")
    assert receiver.take() == (sender.pid, b"from a protobuf process")
    assert receiver.take() == (sender.pid, b"")
    assert receiver.take() == (plain.pid, b"from a plain one")


def test_a_plain_process_and_a_protobuf_process_understand_each_other(context):
    class Plain(Recorder):
        request = install(REQUEST)(lambda self, from_pid, body: self.note(from_pid, body))

    plain, typed = Plain("plain"), Typed()
    context.spawn(plain)
    context.spawn(typed)
    message = RequestMessage(text="x")
    typed.send(plain.pid, message)
    assert plain.take()[2] == message.SerializeToString()
    plain.send(typed.pid, REQUEST, message.SerializeToString())
    assert typed.take() == (plain.pid, message)


@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize(
    ("name", "body"),
    [(REQUEST, b"\xff\xff\xff"), (REGISTER, b"not a protobuf"), (REGISTER, b""), (REGISTER, b"\x10\x05")],
    ids=["malformed", "malformed proto2", "required field missing", "only an optional field"],
)
def test_a_body_that_is_no_such_protobuf_is_counted_and_logged_and_the_next_is_handled(
    context, other_context, caplog, where, name, body
):
    receiver, sender = Typed("receiver"), Typed("sender")
    context.spawn(receiver)
    (context if where == "local" else other_context).spawn(sender)
    sender.send(receiver.pid, name, body)
    sender.send(receiver.pid, RequestMessage(text="next"))
    assert receiver.take() == (sender.pid, RequestMessage(text="next"))
    assert context.statistics()["protobuf_errors"] == 1
    records = [record for record in caplog.records if name in record.getMessage()]
    assert len(records) == 1
    assert records[0].name.startswith("compactor")
    assert str(sender.pid) in records[0].getMessage()


def test_a_bad_body_from_the_wire_is_answered_as_accepted_since_it_was_queued(context):
    receiver = Typed()
    context.spawn(receiver)
    assert post(receiver.pid, REGISTER, b"\xff") == 202
    eventually(lambda: context.statistics()["protobuf_errors"] == 1)


def test_several_types_stack_on_one_handler_which_gets_each_parsed_as_what_it_is(context):
    class Both(Typed):
        @ProtobufProcess.install(ResponseMessage)
        @ProtobufProcess.install(RegisteredMessage)
        def either(self, from_pid, message):
            self.seen.put((from_pid, message))

    both = Both("both")
    context.spawn(both)
    for message in (ResponseMessage(text="x"), RegisteredMessage(id="1"), RequestMessage(text="inherited")):
        both.send(both.pid, message)
        received = both.take()[1]
        assert received == message
        assert type(received) is type(message)


def test_an_override_without_a_decorator_gets_the_parsed_protobuf_too(context):
    class Derived(Typed):
        def request(self, from_pid, message):
            super().request(from_pid, RequestMessage(text=f"derived {message.text}"))

    derived = Derived("derived")
    context.spawn(derived)
    derived.send(derived.pid, RequestMessage(text="x"))
    assert derived.take()[1].text == "derived x"


@pytest.mark.clause("ProtobufProcess")
@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_typed_handlers_may_be_asynchronous(context, kind):
    class Coroutine(Typed):
        @ProtobufProcess.install(RequestMessage)
        async def request(self, from_pid, message):
            await asyncio.sleep(0)
            self.seen.put((from_pid, message))

    class Generator(Typed):
        @ProtobufProcess.install(RequestMessage)
        def request(self, from_pid, message):
            yield asyncio.sleep(0)
            self.seen.put((from_pid, message))

    process = {"coroutine": Coroutine, "generator": Generator}[kind]("process")
    context.spawn(process)
    process.send(process.pid, RequestMessage(text="x"))
    assert process.take() == (process.pid, RequestMessage(text="x"))


@pytest.mark.parametrize("where", ["local", "remote"])
def test_reply_of_a_protobuf_process_takes_a_protobuf_or_a_name_and_a_body(context, other_context, where):
    class Server(Typed):
        @ProtobufProcess.install(RequestMessage)
        def request(self, from_pid, message):
            self.reply(RegisterMessage(framework=message.text))
            self.reply("raw", b"and raw")

    server, client = Server("server"), Typed("client")
    context.spawn(server)
    (context if where == "local" else other_context).spawn(client)
    client.send(server.pid, RequestMessage(text="x"))
    assert client.take() == (server.pid, RegisterMessage(framework="x"))
    assert client.take() == (server.pid, b"and raw")
