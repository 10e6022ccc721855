"""What Linux has and other systems lack is not needed: each is taken away in turn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# psutil comes with an implementation for each system, which is chosen when it is imported.
AWAY = {
    "sysconf": "import os; del os.sysconf",
    "getloadavg": "import os; del os.getloadavg",
    "fork": "import os; del os.fork",
    "resource": "import sys; sys.modules['resource'] = None",
    "fcntl": "import sys; sys.modules['fcntl'] = None",
}

STEPS = """
import contextlib, io
import gymnasium as gym
from sana_wm_gym import ENV_ID, cli

for tool in cli.TOOLS:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            status = cli.main([*tool.name.split(), "--help"])
        except SystemExit as end:
            status = end.code
    assert not status and tool.name in text.getvalue(), tool.name
env = gym.make(ENV_ID, world="tiny")
env.reset(seed=0)
env.step(env.action_space.sample())
assert cli.main(["weights", "plan", "sana-wm-streaming"]) == 0
from sana_wm_gym import memory, provenance
assert memory.peak_resident() > 0 and provenance.provenance("sana-wm demo")["commit"]
"""


@pytest.mark.parametrize("name", AWAY)
def test_tools_environment_and_plan_run_without(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import psutil\n{AWAY[name]}\n{STEPS}"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
