"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# No deadlines: on a busy machine they measure the machine. The same examples on every run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
