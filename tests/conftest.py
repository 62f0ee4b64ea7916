"""Fixtures that every test may use: contexts that are stopped afterwards, and an environment without settings."""

import contextlib
import os

import pytest

from compactor import Context


def pytest_configure(config):
    config.addinivalue_line("markers", "clause(name, ...): the clauses of the manual that this test holds us to")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("LIBPROCESS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def make_context():
    """Return a function that makes a started context (on 127.0.0.1 unless told otherwise), stopped after the test."""
    with contextlib.ExitStack() as stack:

        def make(**settings):
            context = Context(**{"ip": "127.0.0.1", **settings})
            stack.callback(context.stop)
            context.start()
            return context

        yield make


@pytest.fixture
def context(make_context):
    """Return a started context on 127.0.0.1, stopped after the test."""
    return make_context()


@pytest.fixture
def other_context(make_context):
    """Return a second context, so that messages between the two cross a socket."""
    return make_context()
