"""`reply` and `ask`: one question, the first answer, a reason when there is none."""

import asyncio
import queue
import threading

import pytest
from helpers import DEADLINE, Holder, RawPeer, Recorder, eventually, post, unused_port, wait_for
from proto import RegisteredMessage, RegisterMessage, RequestMessage, ResponseMessage

from compactor import PID, Process, ProtobufProcess, install
from compactor.errors import AskError


class Oracle(Holder):
    """Answers questions in several ways, some of them wrong."""

    @install("question")
    def question(self, from_pid, body):
        self.reply("answer", b"re: " + body)

    @install("by-send")
    def by_send(self, from_pid, body):
        self.send(from_pid, "answer", b"sent: " + body)

    @install("twice")
    def twice(self, from_pid, body):
        self.reply("answer", b"first")
        self.reply("answer", b"second")

    @install("slowly")
    async def slowly(self, from_pid, body):
        await asyncio.sleep(0.01)
        self.reply("answer", b"slow " + body)

    @install("never")
    def never(self, from_pid, body):
        self.seen.put(from_pid)

    @install("when-released")
    async def when_released(self, from_pid, body):
        await self.hold(from_pid, body)
        self.reply("answer", b"late")


class Asker(Recorder):
    """Asks in a handler and queues what came of it."""

    @install("ask-in-handler")
    async def ask_in_handler(self, from_pid, body):
        try:
            self.seen.put(await self.ask(self.target, body.decode(), b"from a handler", timeout=self.patience))
        except Exception as error:
            self.seen.put(error)

    def ask_and_block(self):
        try:
            self.seen.put(self.ask(self.target, "question").result())
        except Exception as error:
            self.seen.put(error)


@pytest.fixture(params=["local", "remote"])
def pair(request, context, other_context):
    """Return a spawned asker and a spawned oracle, on one context and on two."""
    oracle, asker = Oracle("oracle"), Asker("asker")
    (context if request.param == "local" else other_context).spawn(oracle)
    context.spawn(asker)
    asker.target, asker.patience = oracle.pid, DEADLINE
    return asker, oracle


def test_reply_answers_the_sender_of_the_message_being_handled(pair):
    asker, oracle = pair

    class Pupil(Recorder):
        answer = install("answer")(lambda self, from_pid, body: self.seen.put((from_pid, body)))

    pupil = Pupil("pupil")
    asker.context.spawn(pupil)
    pupil.send(oracle.pid, "question", b"why")
    assert pupil.take() == (oracle.pid, b"re: why")


def test_reply_goes_to_the_right_sender_also_after_an_await_beside_other_processes(context):
    class Pupil(Recorder):
        answer = install("answer")(lambda self, from_pid, body: self.seen.put((from_pid, body)))

    oracles, pupils = [Oracle(f"oracle{n}") for n in range(3)], [Pupil(f"pupil{n}") for n in range(3)]
    for process in oracles + pupils:
        context.spawn(process)
    for oracle, pupil in zip(oracles, pupils, strict=True):
        pupil.send(oracle.pid, "slowly", pupil.name.encode())
    for oracle, pupil in zip(oracles, pupils, strict=True):
        assert pupil.take() == (oracle.pid, b"slow " + pupil.name.encode())


def test_reply_where_no_message_is_handled_is_a_clear_error(context):
    outcomes = queue.SimpleQueue()

    class Speaker(Process):
        def speak(self):
            try:
                self.reply("answer", b"to nobody")
            except Exception as error:
                outcomes.put(str(error))
            else:
                outcomes.put("")

    context.dispatch(context.spawn(Speaker("speaker")), "speak")
    assert "message" in outcomes.get(timeout=DEADLINE)


def test_reply_to_a_message_without_a_sender_is_an_error_of_the_handler_and_the_process_goes_on(context, caplog):
    oracle = Oracle("oracle")
    pid = context.spawn(oracle)
    assert post(pid, "question", sender="@0.0.0.0:0") == 202
    assert post(pid, "fence") == 202
    oracle.take()
    assert context.statistics()["handler_errors"] == 1
    assert "no sender" in caplog.text


@pytest.mark.parametrize("way", ["question", "by-send", "slowly"])
def test_ask_from_a_thread_gives_the_answer_as_a_message(pair, way):
    asker, oracle = pair
    answer = asker.ask(oracle.pid, way, b"x").result()
    assert (answer.sender, answer.name) == (oracle.pid, "answer")
    assert answer.body in {b"re: x", b"sent: x", b"slow x"}


@pytest.mark.parametrize("way", ["question", "by-send", "slowly"])
def test_ask_can_be_awaited_in_a_handler(pair, way):
    asker, oracle = pair
    asker.send(asker.pid, "ask-in-handler", way.encode())
    answer = asker.take()
    assert (answer.sender, answer.name) == (oracle.pid, "answer")
    assert answer.body.endswith(b"from a handler")


def test_a_question_without_a_body_has_an_empty_one(pair):
    asker, oracle = pair
    assert asker.ask(oracle.pid, "question").result().body == b"re: "


def test_blocking_on_an_answer_on_the_loops_own_thread_is_an_error_and_not_a_deadlock(pair):
    asker, oracle = pair
    asker.context.dispatch(asker.pid, "ask_and_block")
    error = asker.take()
    assert isinstance(error, Exception)
    assert "await" in str(error)
    assert asker.ask(oracle.pid, "question", b"still alive").result().body == b"re: still alive"


@pytest.mark.parametrize("where", ["thread", "handler"])
def test_an_ask_that_is_not_answered_in_time_fails_with_a_timeout_error(pair, where):
    asker, oracle = pair
    if where == "thread":
        with pytest.raises(TimeoutError) as caught:
            asker.ask(oracle.pid, "never", timeout=0.05).result()
        error = caught.value
    else:
        asker.patience = 0.05
        asker.send(asker.pid, "ask-in-handler", b"never")
        error = asker.take()
    assert isinstance(error, TimeoutError)
    assert isinstance(error, AskError)
    assert str(oracle.pid) in str(error)


def test_an_answer_that_comes_too_late_is_a_counted_drop(pair):
    asker, oracle = pair
    asked = asker.ask(oracle.pid, "when-released", timeout=0.05)
    with pytest.raises(TimeoutError):
        asked.result()
    assert asker.context.statistics()["late_answers"] == 0
    wait_for(oracle.holding)
    oracle.release(oracle.context)
    eventually(lambda: asker.context.statistics()["late_answers"] == 1)


def test_only_the_first_answer_counts_and_the_second_is_a_counted_drop(pair):
    asker, oracle = pair
    assert asker.ask(oracle.pid, "twice").result().body == b"first"
    eventually(lambda: asker.context.statistics()["late_answers"] == 1)


def test_an_ask_of_a_process_that_does_not_exist_fails_at_once_with_the_reason(pair):
    asker, oracle = pair
    nobody = PID(oracle.pid.ip, oracle.pid.port, "nobody")
    with pytest.raises(AskError) as caught:
        asker.ask(nobody, "question").result()
    assert not isinstance(caught.value, TimeoutError)
    assert any(words in caught.value.reason for words in ("no such process", "404"))
    assert str(nobody) in str(caught.value)


def test_an_ask_of_an_address_where_nobody_listens_fails_at_once_with_the_reason(context):
    asker = Asker("asker")
    context.spawn(asker)
    with pytest.raises(AskError) as caught:
        asker.ask(PID("127.0.0.1", unused_port(), "nobody"), "question").result()
    assert not isinstance(caught.value, TimeoutError)
    assert "refused" in caught.value.reason


def test_an_ask_in_a_handler_fails_at_once_with_the_reason_as_well(context):
    asker = Asker("asker")
    context.spawn(asker)
    asker.target, asker.patience = PID(context.ip, context.port, "nobody"), DEADLINE
    asker.send(asker.pid, "ask-in-handler", b"question")
    error = asker.take()
    assert isinstance(error, AskError)
    assert "no such process" in error.reason


def test_an_ask_whose_target_terminates_with_the_question_queued_fails_at_once_with_the_reason(context):
    oracle, asker = Oracle("oracle"), Asker("asker")
    pid = context.spawn(oracle)
    context.spawn(asker)
    oracle.hold_now(asker)
    asked = asker.ask(pid, "question")
    oracle.terminate()
    oracle.release(context)
    with pytest.raises(AskError) as caught:
        asked.result()
    assert "terminated" in caught.value.reason


def test_an_ask_when_the_context_stops_fails_at_once(make_context, context):
    asking_context = make_context()
    asker, oracle = Asker("asker"), Oracle("oracle")
    asking_context.spawn(asker)
    context.spawn(oracle)
    asked = asker.ask(oracle.pid, "never")
    oracle.take()
    asking_context.stop()
    with pytest.raises(AskError) as caught:
        asked.result()
    assert not isinstance(caught.value, TimeoutError)


def test_each_ask_comes_from_a_pid_of_its_own_that_is_not_the_askers(pair):
    asker, oracle = pair
    asked = [asker.ask(oracle.pid, "never", timeout=0.2) for _ in range(2)]
    senders = {oracle.take(), oracle.take()}
    assert len(senders) == 2
    assert asker.pid not in senders
    for each in asked:
        with pytest.raises(TimeoutError):
            each.result()


def test_many_questions_at_once_get_each_its_own_answer(pair):
    asker, oracle = pair
    asked = {b"%d" % number: asker.ask(oracle.pid, "question", b"%d" % number) for number in range(200)}
    assert {body: each.result().body for body, each in asked.items()} == {body: b"re: " + body for body in asked}


def test_a_peer_that_knows_nothing_of_ask_answers_the_sender_that_it_sees(context):
    asker = Asker("asker")
    context.spawn(asker)
    with RawPeer() as peer:
        asked = asker.ask(peer.pid("oracle"), "question", b"why")
        sender, path, body = peer.take()
        assert (path, body) == ("/oracle/question", b"why")
        assert post(sender, "some-answer", b"because", sender=peer.pid("another")) == 202
        answer = asked.result()
        assert (answer.sender, answer.name, answer.body) == (peer.pid("another"), "some-answer", b"because")


def test_an_ask_waits_30_seconds_unless_said_otherwise():
    import inspect

    assert inspect.signature(Process.ask).parameters["timeout"].default == 30.0
    assert inspect.signature(ProtobufProcess.ask).parameters["timeout"].default == 30.0


@pytest.mark.parametrize("timeout", [-1, "soon", float("nan")])
def test_a_timeout_that_is_no_time_is_refused_when_asked(pair, timeout):
    asker, oracle = pair
    with pytest.raises((ValueError, TypeError)):
        asker.ask(oracle.pid, "question", timeout=timeout)


def test_a_body_that_is_no_bytes_is_refused_when_asked_or_replied(pair):
    asker, oracle = pair
    with pytest.raises(TypeError):
        asker.ask(oracle.pid, "question", "text")


class TypedOracle(ProtobufProcess):
    @ProtobufProcess.install(RequestMessage)
    def request(self, from_pid, message):
        self.reply(ResponseMessage(text=message.text.upper()))

    @ProtobufProcess.install(RegisterMessage)
    def register(self, from_pid, message):
        self.send(from_pid, RegisteredMessage(id=message.framework, hosts=["a", "b"]))

    @Process.install("raw")
    def raw(self, from_pid, body):
        self.reply("raw-answer", body[::-1])


class TypedAsker(ProtobufProcess):
    def __init__(self, target):
        super().__init__("typed-asker")
        self.target = target
        self.answers = queue.SimpleQueue()

    async def ask_now(self):
        self.answers.put(await self.ask(self.target, RequestMessage(text="awaited")))


@pytest.fixture(params=["local", "remote"])
def typed_pair(request, context, other_context):
    oracle = TypedOracle("typed-oracle")
    (context if request.param == "local" else other_context).spawn(oracle)
    asker = TypedAsker(oracle.pid)
    context.spawn(asker)
    return asker, oracle


def test_a_protobuf_process_gets_the_parsed_protobuf_of_the_type_that_the_answer_names(typed_pair):
    asker, oracle = typed_pair
    for question, expected in (
        (RequestMessage(text="hello"), ResponseMessage(text="HELLO")),
        (RegisterMessage(framework="f"), RegisteredMessage(id="f", hosts=["a", "b"])),
    ):
        answer = asker.ask(oracle.pid, question).result()
        assert answer == expected
        assert type(answer) is type(expected)


def test_a_protobuf_process_can_await_its_ask(typed_pair):
    asker, _ = typed_pair
    asker.context.dispatch(asker.pid, "ask_now")
    assert asker.answers.get(timeout=DEADLINE) == ResponseMessage(text="AWAITED")


def test_raw_asks_and_replies_work_on_a_protobuf_process_too(typed_pair):
    asker, oracle = typed_pair
    answer = asker.ask(oracle.pid, "raw", b"abc").result()
    assert (answer.name, answer.body) == ("raw-answer", b"cba")


def test_an_answer_that_does_not_parse_fails_the_ask_and_is_counted(context):
    class Liar(Process):
        request = install(RequestMessage.DESCRIPTOR.full_name)(
            lambda self, from_pid, body: self.reply(RegisteredMessage.DESCRIPTOR.full_name, b"\xff")
        )

    liar = Liar("liar")
    asker = TypedAsker(context.spawn(liar))
    context.spawn(asker)
    with pytest.raises(AskError) as caught:
        asker.ask(liar.pid, RequestMessage()).result()
    assert not isinstance(caught.value, TimeoutError)
    assert context.statistics()["protobuf_errors"] == 1


def test_an_ask_can_be_made_by_several_threads_at_once(pair):
    asker, oracle = pair
    answers = queue.SimpleQueue()

    def ask(number):
        answers.put(asker.ask(oracle.pid, "question", b"%d" % number).result().body)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(answers.get_nowait() for _ in threads) == [b"re: %d" % number for number in range(8)]
