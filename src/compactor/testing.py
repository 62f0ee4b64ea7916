"""Contexts for tests: started before, stopped after, whatever the test did."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .context import Context

__all__ = ["EphemeralContextTestCase", "ephemeral_context"]


class EphemeralContextTestCase(unittest.TestCase):
    """A test case whose `context` is new and started for each test."""

    context: Context

    def setUp(self) -> None:
        """Start the context."""
        super().setUp()
        self.context = Context()
        self.addCleanup(self.context.stop)  # also when the set-up of a subclass fails
        self.context.start()

    def tearDown(self) -> None:
        """Stop it."""
        self.context.stop()
        super().tearDown()


@contextmanager
def ephemeral_context(**kw: Any) -> Iterator[Context]:
    """Give a started context, made with the arguments of `Context`; it is stopped even when the body raises."""
    context = Context(**kw)
    context.start()
    try:
        yield context
    finally:
        context.stop()
