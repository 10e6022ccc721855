"""The `sana-wm` command: one line per tool, each tool imported when it is called.

A tool is a module with `main(arguments) -> exit status`. Invalid input raises ValueError, OSError
or ImportError, which become one line on stderr and exit status 2; a folder that another process
works in is exit status 3.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from sana_wm_gym import __version__
from sana_wm_gym.extras import message_of, nearest


class Tool(NamedTuple):
    """A command of one or two words.

    Attributes:
        name: What is typed after `sana-wm`.
        summary: What it does, in one line.
        module: Its module within `sana_wm_gym`.
        extra: The extra that brings what it needs besides the package's own requirements.
    """

    name: str
    summary: str
    module: str
    extra: str | None = None


TOOLS = (
    Tool("demo", "step a world along a tour; video and camera scores", "agents.demo", "viz"),
    Tool("play", "walk in a world in the browser: keys, gamepad or touch", "play.app", "play"),
    Tool("doctor", "versions, devices, extras, and which worlds run here", "doctor"),
    Tool("weights", "plan, fetch and check the released weights", "weights.command"),
    Tool("train", "train a policy in a world", "agents.train", "agents"),
    Tool("evaluate", "evaluate a policy, in its world or another", "agents.evaluate", "agents"),
    Tool("plan", "plan by branching the world", "agents.plan", "agents"),
    Tool("record", "record episodes as a Minari dataset", "agents.record", "data"),
    Tool("clone", "train a policy from a recorded dataset", "agents.clone", "agents"),
    Tool("push", "send a world, policy or dataset to the hub", "agents.push", "hub"),
    Tool("report", "aggregate training runs over seeds", "agents.report", "agents"),
    Tool("ppo-latent", "PPO from latents, in one file", "agents.ppo_latent", "agents"),
    Tool(
        "dream-to-real",
        "train in a learned world, evaluate in its ground truth",
        "agents.dream_to_real",
        "agents",
    ),
    Tool(
        "bench run", "camera control of a world on a bench", "evaluation.tools.bench_run", "bench"
    ),
    Tool("bench make", "make a small bench with known truth", "evaluation.tools.bench_make"),
    Tool("score", "score video files against a bench", "evaluation.tools.score", "bench"),
    Tool("probe", "memory, long horizons and novel motions of a world", "evaluation.tools.probe"),
    Tool("train-world", "train the embedded world", "training.train", "train"),
    Tool("export-world", "copy a training run's weights to a world file", "training.export"),
)
"""In the order of `sana-wm`'s list."""

USAGE = """\
usage: sana-wm TOOL [...]      sana-wm TOOL --help shows examples

{tools}

sana-wm --version prints the version. The same as python -m sana_wm_gym TOOL.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a tool; returns its exit status, 2 for what cannot be run."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"sana_wm_gym {__version__}")
        return 0
    if not given or given[0] in ("-h", "--help"):
        print(_list(TOOLS), end="")
        return 0
    tool = next((t for t in TOOLS if given[: t.name.count(" ") + 1] == t.name.split()), None)
    if tool is None:
        return _unknown(given)
    rest = given[tool.name.count(" ") + 1 :]
    before, sys.argv = sys.argv, [f"sana-wm {tool.name}", *rest]  # read by hydra and provenance
    try:
        status: int = import_module(f"sana_wm_gym.{tool.module}").main(rest)
        return status
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {message_of(error, tool.extra)}", file=sys.stderr)
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    finally:
        sys.argv = before


def _list(tools: Sequence[Tool]) -> str:
    width = max(len(tool.name) for tool in TOOLS)
    return USAGE.format(tools="\n".join(f"  {t.name:{width}}  {t.summary}" for t in tools))


def _unknown(given: Sequence[str]) -> int:
    """List the tools that begin with a word, or suggest the nearest tool; returns the status."""
    below = [tool for tool in TOOLS if tool.name.startswith(f"{given[0]} ")]
    if below and given[1:] in ([], ["-h"], ["--help"]):
        print(_list(below), end="")
        return 0
    name = " ".join(given[:2]) if below else given[0]
    close = nearest(name, [tool.name for tool in TOOLS])
    print(f"error: no tool {name}{close or '; sana-wm lists them'}", file=sys.stderr)
    return 2
