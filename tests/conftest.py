"""Settings of the whole suite."""

from __future__ import annotations

import os

# Read by torch when it is first imported. Networks here are small: threads that wait for each
# other cost far more than they bring, above all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Windows of pygame without a display.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from hypothesis import settings

# No deadlines: on a busy machine they measure the machine. The same examples on every run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

pytest_plugins = ["small_worlds"]
