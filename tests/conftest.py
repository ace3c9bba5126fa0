"""Settings of the whole suite."""

from hypothesis import settings

# No test fails for a slow machine: a deadline is Hypothesis's own idea of how long an example may take.
settings.register_profile("foregate", deadline=None)
settings.load_profile("foregate")
