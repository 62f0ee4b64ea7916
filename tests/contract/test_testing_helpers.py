"""`compactor.testing`: a context for a `with` block and one for each test of a `unittest` case."""

import unittest

import pytest
from helpers import Recorder

from compactor import Context, Process
from compactor.testing import EphemeralContextTestCase, ephemeral_context


def test_ephemeral_context_gives_a_running_context_and_stops_it_afterwards():
    with ephemeral_context(ip="127.0.0.1") as context:
        recorder = Recorder()
        recorder.send(context.spawn(recorder), "note", b"running")
        assert recorder.take()[2] == b"running"
        assert context.is_alive()
    assert not context.is_alive()
    with pytest.raises(Context.Error):
        context.spawn(Process("late"))


def test_ephemeral_context_stops_also_when_the_body_raises_and_lets_the_error_pass():
    with pytest.raises(KeyError, match="of the body"), ephemeral_context(ip="127.0.0.1") as context:
        raise KeyError("of the body")
    assert not context.is_alive()


def test_ephemeral_context_takes_the_arguments_of_a_context():
    with ephemeral_context(ip="127.0.0.2", delegate="master") as context:
        assert context.spawn(Process("master")).ip == "127.0.0.2"


def _run(case_class, monkeypatch):
    monkeypatch.setenv("LIBPROCESS_IP", "127.0.0.1")
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case_class).run(result)
    return result


def test_each_test_of_an_ephemeral_context_case_has_a_running_context_of_its_own(monkeypatch):
    contexts = []

    class Case(EphemeralContextTestCase):
        def test_one(self):
            self.context.spawn(Process("same"))
            contexts.append(self.context)

        def test_two(self):
            self.context.spawn(Process("same"))
            contexts.append(self.context)

    result = _run(Case, monkeypatch)
    assert result.testsRun == 2
    assert result.wasSuccessful()
    assert contexts[0] is not contexts[1]
    assert not any(context.is_alive() for context in contexts)


def test_an_ephemeral_context_case_stops_its_context_when_the_test_fails(monkeypatch):
    contexts = []

    class Case(EphemeralContextTestCase):
        def setUp(self):
            super().setUp()
            contexts.append(self.context)

        def test_failing(self):
            self.fail("deliberate")

        def test_erring(self):
            raise KeyError("deliberate")

    result = _run(Case, monkeypatch)
    assert (len(result.failures), len(result.errors)) == (1, 1)
    assert not any(context.is_alive() for context in contexts)


def test_an_ephemeral_context_case_stops_its_context_when_its_own_set_up_fails(monkeypatch):
    contexts = []

    class Case(EphemeralContextTestCase):
        def setUp(self):
            super().setUp()
            contexts.append(self.context)
            raise KeyError("deliberate")

        def test_never_run(self):
            raise AssertionError("run")

    result = _run(Case, monkeypatch)
    try:
        assert len(result.errors) == 1
        assert not contexts[0].is_alive()
    finally:
        contexts[0].stop()
