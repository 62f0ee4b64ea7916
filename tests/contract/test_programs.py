"""The manual's programs and fragments run as programs of their own and end by themselves with 0."""

import fcntl
import pathlib
import tempfile

import pytest
from helpers import run_program, wait_until_port_is_free

PROGRAMS = pathlib.Path(__file__).parent / "programs"


@pytest.fixture
def alone_on_port():
    """Return a function that waits until a port, which a program insists on, belongs to this test alone."""
    lock_path = pathlib.Path(tempfile.gettempdir()) / "compactor-tests-fixed-ports.lock"
    with lock_path.open("w") as lock:
        # Several checkouts may be tested on one machine at a time; the lock goes with the file object.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield wait_until_port_is_free


@pytest.mark.clause("getting started", "compactor.spawn")
def test_the_getting_started_program_runs_as_printed_and_ends_with_0():
    run_program(PROGRAMS / "getting_started.py")


@pytest.mark.clause("leader/follower pattern")
def test_the_leader_follower_program_runs_as_printed_and_ends_with_0(alone_on_port):
    alone_on_port(5051)
    run_program(PROGRAMS / "leader_follower.py")


@pytest.mark.clause("Context")
def test_the_fragment_on_contexts_runs_on_the_port_it_names_and_join_returns_after_a_stop(alone_on_port):
    alone_on_port(8081)
    run_program(PROGRAMS / "context_fragment.py")


@pytest.mark.clause("PID")
def test_the_fragment_on_pids_runs():
    run_program(PROGRAMS / "pid_fragment.py")


@pytest.mark.clause("Process")
def test_the_fragment_on_processes_runs():
    run_program(PROGRAMS / "process_fragment.py")


@pytest.mark.clause("Process.install")
def test_the_fragment_on_installed_methods_runs():
    run_program(PROGRAMS / "install_fragment.py")


@pytest.mark.clause("Process.route")
def test_the_fragment_on_routes_runs():
    run_program(PROGRAMS / "route_fragment.py")


@pytest.mark.clause("ProtobufProcess.install")
def test_the_fragment_on_protobuf_handlers_runs():
    run_program(PROGRAMS / "protobuf_install_fragment.py")


@pytest.mark.clause("protocol buffer processes", "ProtobufProcess")
def test_the_chapter_on_protocol_buffer_processes_runs_between_two_contexts():
    run_program(PROGRAMS / "service_fragment.py")
