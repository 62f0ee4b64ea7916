"""The module's own functions and names, and the default context behind them."""

import threading

import pytest
from helpers import DEADLINE, Recorder, in_thread, request, run_program, wait_for

import compactor
from compactor import Context, Process, install, route


@pytest.fixture
def default_context():
    compactor.initialize(ip="127.0.0.1")
    context = Context.singleton()
    yield context
    context.stop()


def test_the_names_of_the_manual_are_where_it_imports_them_from():
    import compactor.context
    import compactor.pid
    import compactor.process

    assert compactor.Context is compactor.context.Context
    assert compactor.Process is compactor.process.Process
    assert compactor.ProtobufProcess is compactor.process.ProtobufProcess
    assert compactor.PID is compactor.pid.PID
    assert issubclass(compactor.ProtobufProcess, compactor.Process)


@pytest.mark.parametrize(
    ("owner", "name", "base"),
    [
        (Context, "Error", Exception),
        (Context, "SocketError", Context.Error),
        (Context, "InvalidProcess", Context.Error),
        (Context, "InvalidMethod", Context.Error),
        (Process, "Error", Exception),
        (Process, "UnboundProcess", Process.Error),
    ],
)
def test_the_exception_names_of_0_3_0_exist_and_keep_their_bases(owner, name, base):
    assert issubclass(getattr(owner, name), base)


@pytest.mark.clause("compactor.spawn", "compactor.spawn returns")
def test_spawn_binds_to_the_default_context_and_returns_the_pid(default_context):
    recorder = Recorder()
    pid = compactor.spawn(recorder)
    assert pid == recorder.pid == compactor.PID(default_context.ip, default_context.port, "recorder")
    assert recorder.context is default_context


@pytest.mark.clause("compactor.join")
def test_join_blocks_until_the_default_context_has_been_stopped(default_context):
    joined = in_thread(compactor.join)
    compactor.spawn(Recorder())
    assert joined.empty()
    default_context.stop()
    assert joined.get(timeout=DEADLINE) == ("returned", None)


def test_install_and_route_of_the_module_do_what_those_of_process_do(default_context):
    class Page(Process):
        def __init__(self):
            super().__init__("page")
            self.visited = threading.Event()

        @install("visit")
        def visit(self, from_pid, body):
            self.visited.set()

        @route("/text")
        def text(self, handler):
            handler.write("some text")

    page = Page()
    compactor.spawn(page)
    client = Process("client")
    compactor.spawn(client)
    client.send(page.pid, "visit")
    wait_for(page.visited)
    assert request(page.pid, "/page/text").body == b"some text"


def test_the_default_context_is_one_and_the_same_until_it_is_stopped(default_context):
    assert Context.singleton() is default_context
    compactor.initialize()
    assert Context.singleton() is default_context


def test_the_default_context_can_be_stopped_and_made_again(default_context):
    compactor.spawn(Recorder())
    default_context.stop()
    compactor.initialize(ip="127.0.0.1")
    again = Context.singleton()
    try:
        recorder = Recorder()
        compactor.spawn(recorder)
        client = Process("client")
        compactor.spawn(client)
        client.send(recorder.pid, "note", b"again")
        assert again is not default_context
        assert recorder.take() == ("note", client.pid, b"again")
    finally:
        again.stop()


@pytest.mark.parametrize("other", [{"delegate": "master"}, {"ip": "127.0.0.2"}, {"port": 1}])
def test_a_second_initialize_with_other_arguments_is_an_error_that_says_so(default_context, other):
    with pytest.raises(Context.Error, match=f"(?i)already.*{next(iter(other))}|{next(iter(other))}.*already"):
        compactor.initialize(**other)
    assert Context.singleton() is default_context


def test_a_second_initialize_with_the_same_arguments_changes_nothing(default_context):
    compactor.initialize(ip="127.0.0.1")
    assert Context.singleton() is default_context


@pytest.mark.clause("getting started, default context")
def test_the_default_context_is_made_at_first_use_from_the_environment():
    program = """
import os, compactor
assert not [name for name in os.environ if name.startswith("LIBPROCESS_") and name != "LIBPROCESS_IP"]
pid = compactor.spawn(compactor.Process("first"))
print(pid.ip, pid.id, pid.port > 0, compactor.Context.singleton().pid == pid)
"""
    assert run_program(program, env={"LIBPROCESS_IP": "127.0.0.1"}).stdout == "127.0.0.1 first True True\n"


def test_join_before_anything_was_spawned_waits_for_the_default_context_all_the_same():
    program = """
import threading, compactor
threading.Timer(0.2, lambda: compactor.Context.singleton().stop()).start()
compactor.join()
print("joined")
"""
    assert run_program(program, env={"LIBPROCESS_IP": "127.0.0.1"}).stdout == "joined\n"


def test_the_module_level_delegate_reaches_the_default_context():
    program = """
import urllib.request, compactor
compactor.initialize(delegate="master", ip="127.0.0.1")

class Master(compactor.Process):
    @compactor.route("/state")
    def state(self, handler):
        handler.write("the state")

pid = compactor.spawn(Master("master"))
with urllib.request.urlopen(f"http://{pid.ip}:{pid.port}/state", timeout=20) as page:
    print(page.read().decode())
"""
    assert run_program(program).stdout == "the state\n"


def test_a_second_initialize_with_other_arguments_can_be_caught_as_0_3_0_had_it():
    context = compactor.initialize(ip="127.0.0.1")
    try:
        with pytest.raises(RuntimeError, match="already"):
            compactor.initialize(delegate="other", ip="127.0.0.1")
    finally:
        context.stop()
