"""Benchmarks: `python -m bench` measures the bridge against a bare pipe in the same run. Not part of the wheel."""
