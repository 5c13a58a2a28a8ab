"""Fixtures that any test may ask for."""

pytest_plugins = ["tests.postgres", "tests.conformance"]
