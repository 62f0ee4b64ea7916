"""Tests of single modules, without a context where that is possible."""
