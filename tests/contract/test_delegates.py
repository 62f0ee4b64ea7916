"""Both delegates: messages that a process hands on, and the process that serves HTTP requests for no known process."""

import asyncio

import pytest
from helpers import Recorder, post, request

from compactor import PID, Process, install, route


@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize("sender_is", ["local", "on a third context"])
def test_a_delegated_message_reaches_the_other_process_with_its_sender_and_body(
    context, other_context, make_context, where, sender_is
):
    front, back, sender = Process("front"), Recorder("back"), Process("sender")
    context.spawn(front)
    (context if where == "local" else other_context).spawn(back)
    (context if sender_is == "local" else make_context()).spawn(sender)
    front.delegate("note", back.pid)
    sender.send(front.pid, "note", b"handed on")
    assert back.take() == ("note", sender.pid, b"handed on")


def test_a_handler_wins_over_a_delegate_of_the_same_name(context):
    front, back, sender = Recorder("front"), Recorder("back"), Process("sender")
    for process in (front, back, sender):
        context.spawn(process)
    front.delegate("note", back.pid)
    front.delegate("other", back.pid)
    sender.send(front.pid, "note", b"handled here")
    assert front.take()[2] == b"handled here"
    assert back.seen.empty()


def test_a_delegate_can_be_named_in_initialize(context):
    back, sender = Recorder("back"), Process("sender")
    context.spawn(back)
    context.spawn(sender)

    class Front(Process):
        def initialize(self):
            self.delegate("note", back.pid)

    sender.send(context.spawn(Front("front")), "note", b"x")
    assert back.take() == ("note", sender.pid, b"x")


def test_a_delegate_can_be_named_before_the_process_is_spawned(context):
    back, front, sender = Recorder("back"), Process("front"), Process("sender")
    context.spawn(back)
    context.spawn(sender)
    front.delegate("note", back.pid)
    sender.send(context.spawn(front), "note", b"x")
    assert back.take() == ("note", sender.pid, b"x")


def test_a_message_from_the_wire_is_delegated_with_its_sender(context):
    front, back = Process("front"), Recorder("back")
    context.spawn(back)
    front.delegate("note", back.pid)
    context.spawn(front)
    assert post(front.pid, "note", b"x", sender="them@127.0.0.1:9") == 202
    assert back.take() == ("note", PID("127.0.0.1", 9, "them"), b"x")


def test_a_question_that_is_delegated_is_answered_by_the_other_process(context, other_context):
    class Back(Process):
        @install("question")
        def question(self, from_pid, body):
            self.reply("answer", b"from the back")

    front, back, asker = Process("front"), Back("back"), Process("asker")
    other_context.spawn(back)
    front.delegate("question", back.pid)
    context.spawn(front)
    context.spawn(asker)
    answer = asker.ask(front.pid, "question").result()
    assert (answer.sender, answer.body) == (back.pid, b"from the back")


class Master(Process):
    @route("/state")
    def state(self, handler):
        handler.write("the state")

    @route("/")
    def index(self, handler):
        handler.write("the index")

    @route("/files", methods=("POST",))
    async def files(self, handler):
        await asyncio.sleep(0)
        handler.write(b"got " + handler.request.body)


@pytest.fixture
def master(make_context):
    master = Master("master")
    make_context(delegate="master").spawn(master)
    return master


@pytest.mark.clause("Context.__init__ delegate")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/state", b"the state"),
        ("/master/state", b"the state"),
        ("/", b"the index"),
        ("/master", b"the index"),
        ("/state/below", b"the state"),
    ],
)
def test_a_request_for_no_known_process_goes_to_the_delegate(master, path, body):
    answer = request(master.pid, path)
    assert (answer.status, answer.body) == (200, body)


def test_methods_and_bodies_go_to_the_delegate_as_they_are(master):
    assert request(master.pid, "/files", "POST", b"content").body == b"got content"
    assert request(master.pid, "/files").status == 405
    assert request(master.pid, "/unknown").status == 404


def test_a_request_for_a_known_process_does_not_go_to_the_delegate(master):
    class Other(Process):
        page = route("/state")(lambda self, handler: handler.write("of another"))

    master.context.spawn(Other("other"))
    assert request(master.pid, "/other/state").body == b"of another"
    assert request(master.pid, "/other/unknown").status == 404


def test_a_message_for_no_known_process_does_not_go_to_the_delegate(master):
    assert post(PID(master.pid.ip, master.pid.port, "state"), "note") == 404


def test_without_a_delegate_or_with_one_that_does_not_live_the_answer_is_404(context, make_context):
    for each in (context, make_context(delegate="nobody")):
        address = PID(each.ip, each.port, "")
        assert request(address, "/").status == 404
        assert request(address, "/state").status == 404
