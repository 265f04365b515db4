"""Reliability over time: ``python -m tests.soak``; short versions of the same run with the integration tests."""
