"""`Process`: binding, hooks, names, and the operations of a bound process."""

import socket
import threading

import pytest
from helpers import DEADLINE, Holder, RawPeer, Recorder, eventually, in_thread, post, run_program, wait_for

from compactor import PID, Context, Process, install


@pytest.mark.clause("Process.__init__")
def test_a_process_is_spawned_under_the_name_it_was_given(context):
    assert context.spawn(Process("slave(7)")).id == "slave(7)"


def test_a_process_without_a_name_gets_a_generated_one(context):
    first, second = context.spawn(Process()), context.spawn(Process())
    assert first != second
    for pid in (first, second):
        assert pid.id.startswith("(")
        assert pid.id.endswith(")")
        assert int(pid.id[1:-1]) > 0


def test_unique_id_counts_each_prefix_from_one():
    program = """
from compactor.process import unique_id
print(unique_id("slave"), unique_id("slave"), unique_id("master"), unique_id("slave"))
"""
    assert run_program(program).stdout == "slave(1) slave(2) master(1) slave(3)\n"


@pytest.mark.parametrize("name", ["a@b", "a b", "a\r\nX: y", "a\0"])
def test_a_name_that_cannot_be_in_a_pid_is_a_value_error_that_leaves_nothing_behind(context, name):
    with pytest.raises(ValueError, match="id"):
        context.spawn(Process(name))
    assert context.spawn(Process("a")) in context


@pytest.mark.clause("Process.context", "Process.pid")
def test_a_spawned_process_knows_its_context_and_its_pid(context):
    process = Process("process")
    pid = context.spawn(process)
    assert process.context is context
    assert process.pid == pid == PID(context.ip, context.port, "process")


@pytest.mark.clause(
    "Process.context UnboundProcess",
    "Process.pid UnboundProcess",
    "Process.link UnboundProcess",
    "Process.send UnboundProcess",
    "Process.terminate UnboundProcess",
)
@pytest.mark.parametrize("state", ["not spawned", "terminated"])
@pytest.mark.parametrize(
    "operation",
    [
        lambda process, to: process.pid,
        lambda process, to: process.context,
        lambda process, to: process.send(to, "note"),
        lambda process, to: process.link(to),
        lambda process, to: process.terminate(),
        lambda process, to: process.ask(to, "note"),
    ],
    ids=["pid", "context", "send", "link", "terminate", "ask"],
)
def test_an_unbound_process_refuses_each_operation_with_unbound_process(context, state, operation):
    process = Process("process")
    to = PID("127.0.0.1", 9, "to")
    if state == "terminated":
        pid = context.spawn(process)
        process.terminate()
        assert context.wait(pid, DEADLINE)
    with pytest.raises(Process.UnboundProcess):
        operation(process, to)


@pytest.mark.clause("Process.initialize")
def test_initialize_runs_once_with_the_process_routable(context):
    class Starter(Recorder):
        def initialize(self):
            super().initialize()
            self.seen.put(("initialized", self.pid, self.context))
            self.send(self.pid, "note", b"to myself")

    starter = Starter()
    pid = context.spawn(starter)
    assert starter.take() == ("initialized", pid, context)
    assert starter.take() == ("note", pid, b"to myself")
    assert starter.seen.empty()


def test_initialize_need_not_call_super(context):
    class Forgetful(Recorder):
        def initialize(self):
            self.ready = True

    forgetful = Forgetful()
    pid = context.spawn(forgetful)
    forgetful.send(pid, "note", b"heard")
    forgetful.link(PID("127.0.0.1", context.port, "nobody"))
    assert forgetful.take()[2] == b"heard"
    forgetful.take_exit()


@pytest.mark.clause("Process.install mbox", "Process.install from_pid body")
@pytest.mark.parametrize("where", ["local", "remote"])
def test_an_installed_method_gets_the_senders_pid_and_the_body(context, other_context, where):
    recorder = Recorder()
    sender = Process("sender")
    context.spawn(recorder)
    (context if where == "local" else other_context).spawn(sender)
    sender.send(recorder.pid, "note", b"\x00body\xff")
    assert recorder.take() == ("note", sender.pid, b"\x00body\xff")


@pytest.mark.clause("Process.send", "Process.send body")
@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize("body", [None, b"", b"bytes", bytearray(b"bytearray"), memoryview(b"a memoryview")[2:]])
def test_send_takes_any_bytes_like_body_and_the_handler_gets_bytes(context, other_context, where, body):
    recorder = Recorder()
    sender = Process("sender")
    context.spawn(recorder)
    (context if where == "local" else other_context).spawn(sender)
    assert sender.send(recorder.pid, "note", body) is None
    received = recorder.take()[2]
    assert received == (b"" if body is None else bytes(body))
    assert type(received) is bytes


@pytest.mark.parametrize("where", ["local", "remote"])
def test_changing_a_bytearray_after_send_does_not_change_the_message(context, other_context, where):
    holder = Holder()
    sender = Process("sender")
    context.spawn(holder)
    (context if where == "local" else other_context).spawn(sender)
    holder.hold_now(sender)
    body = bytearray(b"before")
    sender.send(holder.pid, "note", body)
    body[:] = b"after!"
    holder.release(context)
    assert holder.take()[2] == b"before"


@pytest.mark.parametrize("body", ["text", 5, ["list"], {"a": 1}, object()])
def test_any_other_body_is_a_type_error_and_nothing_is_sent(context, body):
    recorder = Recorder()
    context.spawn(recorder)
    with pytest.raises(TypeError):
        recorder.send(recorder.pid, "note", body)
    recorder.send(recorder.pid, "fence")
    assert recorder.take_until_fence() == []


@pytest.mark.parametrize("name", ["a b", "a\r\nX: y", "a\0b", "a?b", "a#b", "\xe9"])
def test_a_message_name_that_would_break_the_request_line_is_a_value_error(context, name):
    process = Process("process")
    context.spawn(process)
    with pytest.raises(ValueError, match="name"):
        process.send(PID("127.0.0.1", 9, "to"), name)


def test_messages_from_one_sender_to_one_receiver_arrive_in_order(context, other_context):
    recorder = Recorder()
    sender = Process("sender")
    context.spawn(recorder)
    other_context.spawn(sender)
    bodies = [b"%d" % number for number in range(500)]
    for body in bodies:
        sender.send(recorder.pid, "note", body)
    sender.send(recorder.pid, "fence")
    assert recorder.take_until_fence() == bodies


def test_send_reaches_a_peer_that_is_no_compactor(context):
    with RawPeer() as peer:
        sender = Process("sender")
        context.spawn(sender)
        sender.send(peer.pid("them"), "hello", b"there")
        assert peer.take() == (sender.pid, "/them/hello", b"there")


def test_a_message_from_a_peer_that_is_no_compactor_is_handled(context):
    recorder = Recorder("slave(1)")
    context.spawn(recorder)
    assert post(recorder.pid, "note", b"body", sender="them@127.0.0.1:9") == 202
    assert recorder.take() == ("note", PID("127.0.0.1", 9, "them"), b"body")


def test_a_message_for_no_known_process_is_answered_with_404(context):
    assert post(PID(context.ip, context.port, "nobody"), "note") == 404


def test_a_message_without_a_handler_is_accepted_and_counted_as_a_dead_letter(context):
    recorder = Recorder()
    pid = context.spawn(recorder)
    assert post(pid, "unknown", b"12345", sender="them@127.0.0.1:9") == 202
    letter = eventually(lambda: context.dead_letters and context.dead_letters[-1])
    assert (letter.sender, letter.to, letter.name, letter.size) == (PID("127.0.0.1", 9, "them"), pid, "unknown", 5)
    assert "handler" in letter.reason
    assert context.statistics()["dead_letters"] == 1


def test_a_message_to_an_unknown_local_process_is_a_dead_letter_and_never_leaves(context):
    sender = Process("sender")
    context.spawn(sender)
    sender.send(PID(context.ip, context.port, "nobody"), "note", b"x")
    letter = eventually(lambda: context.dead_letters and context.dead_letters[-1])
    assert (letter.to.id, letter.name) == ("nobody", "note")
    assert "no such process" in letter.reason


def test_a_host_name_is_resolved_without_blocking_the_loop(context, other_context, monkeypatch):
    resolving, answer, getaddrinfo = threading.Event(), threading.Event(), socket.getaddrinfo

    def slow_getaddrinfo(host, *args, **kw):
        if host == "slow.example":
            resolving.set()
            wait_for(answer)
            host = "127.0.0.1"
        return getaddrinfo(host, *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", slow_getaddrinfo)
    far, near = Recorder("far"), Recorder("near")
    other_context.spawn(far)
    context.spawn(near)
    near.send(PID("slow.example", other_context.port, "far"), "note", b"by name")
    wait_for(resolving)
    near.send(near.pid, "note", b"meanwhile")
    assert near.take()[2] == b"meanwhile"
    answer.set()
    assert far.take() == ("note", near.pid, b"by name")


@pytest.mark.clause("Process.link", "Process.exited")
@pytest.mark.parametrize("where", ["local", "remote"])
def test_exited_is_called_once_with_the_pid_and_a_reason_when_a_linked_process_terminates(
    context, other_context, where
):
    linkee = Recorder("linkee")
    linker = Recorder("linker")
    pid = context.spawn(linkee)
    (context if where == "local" else other_context).spawn(linker)
    assert linker.link(pid) is None
    linker.send(pid, "fence")
    linkee.take()
    linkee.terminate()
    gone, reason = linker.take_exit()
    assert gone == pid
    assert isinstance(reason, str)
    assert reason
    linker.send(linker.pid, "fence")
    linker.take()
    assert linker.exits.empty()


@pytest.mark.parametrize("where", ["local", "remote"])
def test_linking_to_a_process_that_does_not_exist_is_followed_by_exited(context, other_context, where):
    linker = Recorder("linker")
    (context if where == "local" else other_context).spawn(linker)
    nobody = PID(context.ip, context.port, "nobody")
    linker.link(nobody)
    assert linker.take_exit()[0] == nobody


@pytest.mark.clause("Process.terminate")
def test_terminate_unbinds_the_process_and_is_seen_by_wait_and_in(context):
    process = Process("process")
    pid = context.spawn(process)
    assert pid in context
    assert context.wait(pid, 0.0) is False
    assert process.terminate() is None
    assert context.wait(pid, DEADLINE) is True
    assert pid not in context
    with pytest.raises(Process.UnboundProcess):
        assert process.pid


def test_wait_for_a_pid_that_is_not_here_returns_at_once(context):
    assert context.wait(PID(context.ip, context.port, "nobody"), DEADLINE) is True


def test_a_handler_can_terminate_its_own_process_and_still_finishes(context):
    finished = threading.Event()

    class Quitter(Recorder):
        @install("quit")
        def quit(self, from_pid, body):
            self.terminate()
            self.send(from_pid, "note", b"goodbye")
            finished.set()

    quitter, friend = Quitter("quitter"), Recorder("friend")
    pid = context.spawn(quitter)
    context.spawn(friend)
    friend.send(pid, "quit")
    wait_for(finished)
    assert friend.take() == ("note", pid, b"goodbye")
    assert context.wait(pid, DEADLINE)


def test_finalize_runs_last_on_the_loop_and_may_still_send(context):
    friend = Recorder("friend")
    context.spawn(friend)

    class Polite(Recorder):
        def initialize(self):
            self.thread = threading.get_ident()

        def finalize(self):
            self.send(friend.pid, "note", b"on the loop" if threading.get_ident() == self.thread else b"elsewhere")

    pid = context.spawn(Polite("polite"))
    context.terminate(pid)
    assert friend.take() == ("note", pid, b"on the loop")
    assert context.wait(pid, DEADLINE)


def test_a_finalize_that_raises_is_logged_and_the_process_is_gone_all_the_same(context, caplog):
    class Rude(Process):
        def finalize(self):
            raise RuntimeError("not without a fight")

    pid = context.spawn(Rude("rude"))
    context.terminate(pid)
    assert context.wait(pid, DEADLINE)
    assert pid not in context
    assert "not without a fight" in caplog.text


def test_an_exited_that_raises_is_logged_and_the_process_goes_on(context, caplog):
    class Fragile(Recorder):
        def exited(self, pid):
            raise RuntimeError("too sad")

    fragile = Fragile("fragile")
    context.spawn(fragile)
    fragile.link(PID(context.ip, context.port, "nobody"))
    eventually(lambda: "too sad" in caplog.text)
    fragile.send(fragile.pid, "fence")
    assert fragile.take()[0] == "fence"
    assert context.statistics()["handler_errors"] == 1


def test_a_process_object_cannot_be_spawned_twice_while_it_is_bound(context, other_context):
    process = Process("process")
    pid = context.spawn(process)
    for where in (context, other_context):
        with pytest.raises((Context.Error, Process.Error)):
            where.spawn(process)
    assert process.pid == pid
    assert process.context is context


def test_a_terminated_process_object_can_be_spawned_again(context, other_context):
    recorder = Recorder()
    pid = context.spawn(recorder)
    recorder.terminate()
    assert context.wait(pid, DEADLINE)
    again = other_context.spawn(recorder)
    recorder.send(again, "note", b"second life")
    assert recorder.take() == ("note", again, b"second life")


def test_processes_may_be_falsy_and_without_a_hash(context):
    class Odd(Recorder):
        __hash__ = None

        def __eq__(self, other):
            raise AssertionError("compared")

        def __bool__(self):
            return False

        def __len__(self):
            return 0

    odd = Odd("odd")
    pid = context.spawn(odd)
    odd.link(PID(context.ip, context.port, "nobody"))
    odd.take_exit()
    odd.send(pid, "note", b"fine")
    assert odd.take()[2] == b"fine"
    odd.terminate()
    assert context.wait(pid, DEADLINE)


def test_operations_of_a_bound_process_work_from_any_thread(context):
    recorder = Recorder()
    pid = context.spawn(recorder)
    outcomes = [in_thread(recorder.send, pid, "note", b"%d" % number) for number in range(10)]
    assert {outcome.get(timeout=DEADLINE) for outcome in outcomes} == {("returned", None)}
    assert sorted(recorder.take()[2] for _ in outcomes) == [b"%d" % number for number in range(10)]
