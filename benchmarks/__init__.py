"""Benchmarks: `python -m benchmarks.<name> --json FILE`."""
