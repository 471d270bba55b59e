"""Derivatives compared: `python -m benchmarks.autodiff --json FILE`; docs/autodiff.md says what comes out and why."""
