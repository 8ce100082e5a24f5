"""One file a suite. Each has `SUITES`; `python -m benchmarks` finds them by their file."""
