"""Small programs in the style of third-party code for 0.3.0, with nothing changed but Python 2 spellings."""

import functools
import threading
import unittest
from unittest import mock

import pytest
from helpers import DEADLINE, eventually, wait_for
from proto import RegisteredMessage, RegisterMessage, RequestMessage, ResponseMessage

from compactor.context import Context
from compactor.pid import PID
from compactor.process import Process, ProtobufProcess
from compactor.testing import EphemeralContextTestCase, ephemeral_context


def locked(method):
    @functools.wraps(method)
    def wrapper(self, *args, **kw):
        with self.lock:
            return method(self, *args, **kw)

    return wrapper


class SchedulerDriver:
    """What a scheduler driver of that time looked like: plain methods, called from the user's threads."""

    def __init__(self, scheduler, framework, master, context=None):
        self.context = context or Context.singleton()
        self.scheduler = scheduler
        self.framework = framework
        self.master = master
        self.lock = threading.Condition()
        self.status = "not started"
        self.process = None

    @locked
    def start(self):
        if self.status != "not started":
            return self.status
        if not self.context.is_alive():
            self.context.start()
        self.process = SchedulerProcess(self, self.scheduler, self.framework)
        self.context.spawn(self.process)
        self.context.dispatch(self.process.pid, "detected", self.master)
        self.status = "running"
        return self.status

    @locked
    def request(self, text):
        self.context.dispatch(self.process.pid, "request", text)
        return self.status

    @locked
    def stop(self, failover=False):
        assert self.process is not None
        if failover:
            self.context.terminate(self.process.pid)
        else:
            self.context.dispatch(self.process.pid, "stop", failover)
        self.status = "stopped"
        self.lock.notify_all()
        return self.status

    @locked
    def join(self):
        while self.status == "running":
            self.lock.wait(DEADLINE)
        return self.status


class BaseProcess(ProtobufProcess):
    """The root of a hierarchy whose handlers are spread over its levels."""

    def __init__(self, name):
        self.connected = threading.Event()
        self.aborted = threading.Event()
        self.errors = []
        super(BaseProcess, self).__init__(name)  # noqa: UP008

    @ProtobufProcess.install(RegisteredMessage)
    def registered(self, from_pid, message):
        self.on_registered(from_pid, message)

    @property
    def active(self):
        raise AssertionError("nobody asked")


class SchedulerProcess(BaseProcess):
    """Registers with a master until it is told that it is registered."""

    REGISTRATION_RETRY_INTERVAL = 0.01

    def __init__(self, driver, scheduler, framework):
        self.driver = driver
        self.scheduler = scheduler
        self.framework = framework
        self.master = None
        self.attempts = 0
        self.registered = threading.Event()
        self.status = "disconnected"
        super(SchedulerProcess, self).__init__("scheduler(1)")  # noqa: UP008

    def detected(self, master):
        self.master = master
        self.link(master)
        self.context.dispatch(self.pid, "register")

    def register(self):
        if self.connected.is_set():
            return
        self.attempts += 1
        self.send(self.master, RegisterMessage(framework=self.framework, attempt=self.attempts))
        self.context.delay(self.REGISTRATION_RETRY_INTERVAL, self.pid, "register")

    def on_registered(self, from_pid, message):
        if self.connected.is_set():
            return
        self.connected.set()
        self.registered.set()
        self.status = message.id
        self.scheduler.registered(self.driver, message.id)

    def request(self, text):
        self.send(self.master, RequestMessage(text=text))

    @ProtobufProcess.install(ResponseMessage)
    def response(self, from_pid, message):
        self.scheduler.response(self.driver, message.text)

    def exited(self, pid):
        self.connected.clear()
        self.scheduler.disconnected(self.driver)

    def stop(self, failover):
        self.terminate()


class Scheduler:
    """The callbacks that users implement."""

    def registered(self, driver, framework_id):
        pass

    def response(self, driver, text):
        pass

    def disconnected(self, driver):
        pass


class FakeMaster(ProtobufProcess):
    """Ignores the first registration, to see it tried again."""

    def __init__(self):
        self.frameworks = {}
        super(FakeMaster, self).__init__("master")  # noqa: UP008

    @ProtobufProcess.install(RegisterMessage)
    def register(self, from_pid, message):
        if message.attempt > 1:
            self.frameworks[message.framework] = from_pid
            self.link(from_pid)
            self.send(from_pid, RegisteredMessage(id=f"{message.framework}-0001"))

    @ProtobufProcess.install(RequestMessage)
    def request(self, from_pid, message):
        self.send(from_pid, ResponseMessage(text=message.text[::-1]))

    def exited(self, pid):
        self.frameworks = {name: known for name, known in self.frameworks.items() if known != pid}


def _called(method):
    """Wait until a mocked method has been called and return its arguments without `self`."""
    eventually(lambda: method.called, f"{method} was called")
    return method.call_args.args


@pytest.mark.parametrize("contexts", ["one", "two"])
def test_a_scheduler_driver_registers_works_and_stops(context, other_context, contexts):
    master = FakeMaster()
    master_pid = (context if contexts == "one" else other_context).spawn(master)
    scheduler = mock.create_autospec(Scheduler, instance=True)
    driver = SchedulerDriver(scheduler, "framework", master_pid, context=context)
    assert driver.start() == "running"
    assert _called(scheduler.registered) == (driver, "framework-0001")
    wait_for(driver.process.registered)
    assert driver.process.attempts >= 2
    assert driver.process.status == "framework-0001"
    driver.request("hello")
    assert _called(scheduler.response) == (driver, "olleh")
    pid = driver.process.pid
    assert driver.stop() == "stopped"
    assert driver.join() == "stopped"
    assert context.wait(pid, DEADLINE)
    eventually(lambda: not master.frameworks, "the master saw it leave")
    assert context.statistics()["handler_errors"] == 0


@pytest.mark.clause("leader/follower pattern, exited")
def test_a_scheduler_driver_is_told_when_its_master_goes(context, other_context):
    master = FakeMaster()
    scheduler = mock.create_autospec(Scheduler, instance=True)
    driver = SchedulerDriver(scheduler, "framework", other_context.spawn(master), context=context)
    driver.start()
    assert _called(scheduler.registered)
    other_context.terminate(master.pid)
    assert _called(scheduler.disconnected) == (driver,)
    assert not driver.process.connected.is_set()
    driver.stop(failover=True)


def test_a_driver_without_a_context_uses_the_singleton(monkeypatch):
    monkeypatch.setenv("LIBPROCESS_IP", "127.0.0.1")
    scheduler = mock.create_autospec(Scheduler, instance=True)
    singleton = Context.singleton()
    try:
        if not singleton.is_alive():
            singleton.start()
        driver = SchedulerDriver(scheduler, "framework", singleton.spawn(FakeMaster()))
        assert driver.context is singleton
        driver.start()
        assert _called(scheduler.registered) == (driver, "framework-0001")
    finally:
        singleton.stop()


def test_a_context_is_alive_from_start_to_stop_and_can_be_joined():
    context = Context(ip="127.0.0.1")
    assert not context.is_alive()
    context.start()
    assert context.is_alive()
    threading.Timer(0.05, context.stop).start()
    context.join()
    assert not context.is_alive()


def test_joining_with_a_time_returns_though_the_context_goes_on(context):
    context.join(0.01)
    context.join(timeout=0.01)
    assert context.is_alive()


def test_terminating_a_pid_twice_is_terminating_it_once(context):
    finalized = []

    class Last(Process):
        def finalize(self):
            finalized.append(self.pid)

    pid = context.spawn(Last("last"))
    context.terminate(pid)
    context.terminate(pid)
    assert context.wait(pid, DEADLINE)
    context.terminate(pid)
    assert finalized == [pid]


def test_a_process_has_its_name_as_an_attribute(context):
    process = Process("process")
    assert process.name == "process"
    assert context.spawn(process).id == process.name


def test_a_name_attribute_of_the_users_own_stays_as_it_is(context):
    class Before(Process):
        def __init__(self):
            self.name = "set before"
            super().__init__("before")

    class After(Process):
        def __init__(self):
            super().__init__("after")
            self.name = "set after"

    class Computed(Process):
        def __init__(self):
            super().__init__("computed")

        @property
        def name(self):
            return "computed by the user"

    for process_class, id_, name in (
        (Before, "before", "set before"),
        (After, "after", "set after"),
        (Computed, "computed", "computed by the user"),
    ):
        process = process_class()
        assert context.spawn(process).id == id_
        assert process.name == name


def test_autospecs_and_mocks_as_attributes_change_nothing(context):
    class Executor(ProtobufProcess):
        def __init__(self):
            self.driver = mock.create_autospec(SchedulerDriver, instance=True)
            self.executor = mock.create_autospec(Scheduler)
            self.registered = mock.MagicMock()
            self.exited_mock = mock.MagicMock()
            self.seen = threading.Event()
            super().__init__("executor")

        @ProtobufProcess.install(RequestMessage)
        def request(self, from_pid, message):
            self.driver.request(message.text)
            self.seen.set()

        @ProtobufProcess.install(RegisteredMessage)
        def registered(self, from_pid, message):
            raise AssertionError("not sent")

    executor = Executor()
    pid = context.spawn(executor)
    executor.send(pid, RequestMessage(text="x"))
    wait_for(executor.seen)
    executor.driver.request.assert_called_once_with("x")
    executor.registered.assert_not_called()
    executor.terminate()
    assert context.wait(pid, DEADLINE)


def test_a_hook_that_a_test_replaced_by_a_mock_on_the_class_is_called(context):
    with mock.patch.object(FakeMaster, "exited", autospec=True) as exited:
        master = FakeMaster()
        context.spawn(master)
        nobody = PID(context.ip, context.port, "nobody")
        master.link(nobody)
        assert _called(exited) == (master, nobody)


def test_a_dispatched_method_that_a_test_replaced_on_the_instance_is_called(context):
    master = FakeMaster()
    context.spawn(master)
    master.stub = mock.MagicMock()
    context.dispatch(master.pid, "stub", 1, 2)
    assert _called(master.stub) == (1, 2)


def test_ephemeral_contexts_talk_to_each_other_by_the_printed_pid():
    class Child(Process):
        def __init__(self):
            super(Child, self).__init__("child")  # noqa: UP008
            self.pinged = threading.Event()

        @Process.install("ping")
        def ping(self, from_pid, body):
            self.pinged.set()

    with ephemeral_context(ip="127.0.0.1") as one, ephemeral_context(ip="127.0.0.1") as two:
        child, parent = Child(), Process("parent")
        text = str(one.spawn(child))
        two.spawn(parent)
        parent.send(PID.from_string(text), "ping")
        wait_for(child.pinged)


def test_a_unittest_case_of_that_time_runs(monkeypatch):
    monkeypatch.setenv("LIBPROCESS_IP", "127.0.0.1")

    class TestMaster(EphemeralContextTestCase):
        def test_registration(self):
            master = FakeMaster()
            self.context.spawn(master)
            scheduler = mock.create_autospec(Scheduler, instance=True)
            driver = SchedulerDriver(scheduler, "framework", master.pid, context=self.context)
            driver.start()
            wait_for(driver.process.registered)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(TestMaster).run(result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors + result.failures
