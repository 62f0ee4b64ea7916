"""The benchmark suite: `python -m benchmarks` runs the cases of `cases.py`, see README.md."""
