"""Fixtures that any test may ask for."""

from hypothesis import settings

pytest_plugins = ["tests.postgres", "tests.conformance"]

settings.register_profile("clockless", deadline=None)
settings.load_profile("clockless")
