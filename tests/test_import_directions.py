"""Imports point one way, and heavy packages stay where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "sana_wm_gym"

# Everything may import the shared core, which imports nothing of ours.
SHARED = {"checks", "files", "jobs", "tables", "values", "video"}

# What a part may import of the project besides itself. `top` is the package's own __init__.
DIRECT = {
    "shared": set(),
    "top": {"envs"},
    "camera": set(),
    "metrics": {"camera"},
    "models": set(),
    "weights": {"models"},
    "world": {"weights", "models", "camera"},
    "training": {"world", "weights", "models", "camera"},
    "envs": {"world", "metrics", "camera"},
    "benchmarks": {"envs", "world", "weights", "models", "camera", "metrics", "training"},
    "agents": {"envs", "world", "weights", "models", "camera", "metrics"},
}

# Foreign packages that only some parts may import.
CONFINED = {
    "torch": {"models", "weights", "world", "training", "benchmarks", "agents"},
    "gymnasium": {"top", "envs", "benchmarks", "agents"},
    "hydra": {"training", "benchmarks", "agents"},
    "omegaconf": {"training", "benchmarks", "agents"},
    "safetensors": {"weights", "envs", "training", "benchmarks", "agents"},
    "stable_baselines3": {"envs", "benchmarks", "agents"},
}

# `models` is torch alone: no files, no network, no cameras.
MODELS_MAY_NOT = {"os", "pathlib", "io", "json", "requests", "urllib", "huggingface_hub", "cv2"}


def part_of(module: str) -> str | None:
    """Part of the project a dotted module belongs to, or None for foreign modules."""
    names = module.split(".")
    if names[0] != PACKAGE:
        return names[0] if names[0] in DIRECT else None
    if len(names) > 1 and names[1] in SHARED:
        return "shared"
    return names[1] if len(names) > 1 and names[1] in DIRECT else "top"


def imports(source: str, module: str) -> list[str]:
    """Dotted names of everything `module` imports, wherever in the file it does."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *base.split(".")]).rstrip(".")
            # `from sana_wm_gym import envs` imports the module, not a name in it.
            found += [f"{base}.{alias.name}" if base == PACKAGE else base for alias in node.names]
    return list(dict.fromkeys(found))


def violations(source: str, module: str) -> list[str]:
    """Imports of `module` that point the wrong way."""
    part = part_of(module)
    assert part is not None, f"{module} is not part of the project"
    wrong = []
    for name in imports(source, module):
        target, foreign = part_of(name), name.split(".")[0]
        # Reading the version or registering environments is open to the scripts.
        from_script = target == "top" and part in {"agents", "benchmarks"}
        if target not in {None, part, "shared"} and not from_script:
            if target not in DIRECT[part]:
                wrong.append(f"{module} imports {name}: {part} may not import {target}")
        elif part not in CONFINED.get(foreign, {part}):
            wrong.append(f"{module} imports {name}: only {sorted(CONFINED[foreign])} may")
        elif part == "models" and foreign in MODELS_MAY_NOT:
            wrong.append(f"{module} imports {name}: models know no files, network or cameras")
    return wrong


def sources() -> list[Path]:
    return sorted(
        path
        for folder in (PACKAGE, "agents", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    )


def test_imports_of_the_project_point_one_way() -> None:
    wrong = []
    for path in sources():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        wrong += violations(path.read_text(encoding="utf-8"), module)
    assert not wrong, "\n".join(wrong)
    assert len(sources()) > 40


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sana_wm_gym.camera.se3", "import torch"),
        ("sana_wm_gym.metrics.pose", "def f():\n    from torch import nn"),
        ("sana_wm_gym.camera.se3", "from sana_wm_gym.world.scenes import Scene"),
        ("sana_wm_gym.models.layers", "from sana_wm_gym.camera import ray_matrices"),
        ("sana_wm_gym.models.layers", "from pathlib import Path"),
        ("sana_wm_gym.models.layers", "from ..weights import world_file"),
        ("sana_wm_gym.models.layers", "from sana_wm_gym import weights"),
        ("sana_wm_gym.weights.world_file", "import sana_wm_gym.world.sana_world"),
        ("sana_wm_gym.world.procedural", "from gymnasium import spaces"),
        ("sana_wm_gym.world.procedural", "from sana_wm_gym.metrics.pose import score"),
        ("sana_wm_gym.world.procedural", "from sana_wm_gym import ENV_ID"),
        ("sana_wm_gym.world.sampler", "from sana_wm_gym.training import objective"),
        ("sana_wm_gym.envs.sana_wm_env", "import torch.nn.functional as F"),
        ("sana_wm_gym.envs.sana_wm_env", "import hydra"),
        ("sana_wm_gym.envs.sana_wm_env", "from agents import ppo"),
        ("sana_wm_gym.training.train", "from sana_wm_gym.envs import SanaWMEnv"),
    ],
)
def test_planted_violations_are_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sana_wm_gym.camera.rays", "import numpy as np\nfrom .se3 import invert"),
        ("sana_wm_gym.envs.sana_wm_env", "from sana_wm_gym.world.catalogue import load_world"),
        ("sana_wm_gym.models.layers", "from torch import nn\nfrom sana_wm_gym.models import state"),
        ("sana_wm_gym.training.train", "import hydra\nimport torch"),
        (
            "benchmarks.demo",
            "import sana_wm_gym, gymnasium\nfrom sana_wm_gym.envs import SanaWMEnv",
        ),
    ],
)
def test_allowed_imports_are_allowed(module: str, source: str) -> None:
    assert violations(source, module) == []
