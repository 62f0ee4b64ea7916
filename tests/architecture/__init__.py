"""Tests of how the parts of the package may know each other."""
