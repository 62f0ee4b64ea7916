"""Fixtures of the tests with foreign peers; a test whose peer cannot be had is skipped with the reason."""

import contextlib
import pathlib
import subprocess

import pytest
from peers import Peer

ROOT = pathlib.Path(__file__).parents[2]
INSTALLED = ROOT / ".interop"


def _missing(peer):
    """Return why `interop/install` left this peer out, or None."""
    reason = INSTALLED / f"{peer}.missing"
    return reason.read_text().strip() if reason.exists() else None


@pytest.fixture
def start_peer():
    """Return a function that starts a peer from a command; all are killed after the test."""
    with contextlib.ExitStack() as stack:

        def start(command):
            peer = Peer(command)
            stack.callback(peer.kill)
            peer.wait_until_ready()
            return peer

        yield start


@pytest.fixture
def start_go_peer(start_peer):
    """Return a function that starts a process on mesos-go, on a given port or a free one."""
    program = INSTALLED / "go-peer"
    if not program.exists():
        pytest.skip(_missing("go") or "the Go peer is not built: make interop does that")
    if program.stat().st_mtime < (ROOT / "interop/go/peer.go").stat().st_mtime:
        pytest.skip("the Go peer is older than its source: make interop builds it again")
    return lambda port=0: start_peer([program, "-port", str(port)])


@pytest.fixture
def go_peer(start_go_peer):
    """Return a running process on mesos-go."""
    return start_go_peer()


@pytest.fixture(scope="session")
def legacy_command():
    """Return the command that starts the 0.3.0 peer, after installing what it needs, once."""
    subprocess.run([ROOT / "interop/install", "legacy"], check=True, capture_output=True)
    if reason := _missing("legacy"):
        pytest.skip(reason)
    # -I: no setting from outside, and above all no other compactor on the path; -W: its age shows in warnings.
    return [INSTALLED / "legacy/bin/python", "-I", "-W", "ignore", ROOT / "interop/legacy/peer.py"]


@pytest.fixture
def legacy_peer(start_peer, legacy_command):
    """Return a running process on compactor 0.3.0."""
    return start_peer(legacy_command)
