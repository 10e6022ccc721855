"""Imports point one way, and heavy packages stay where they belong."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "sana_wm_gym"

# Top-level folders of a checkout that are installed inside the package.
BESIDE = {"agents", "conf"}

# Modules of the package that every part may import, and that import nothing of ours.
CORE = {"checks", "extras", "files", "flags", "hydra_settings", "jobs", "memory", "ownership"}
CORE |= {"provenance", "tables", "tensor_files", "values", "video"}

# What a part may import of the project besides itself. `top` is the package's own __init__.
DIRECT = {
    "core": set(),
    "top": {"envs"},
    "cli": set(),  # it imports a tool when the tool is called
    "__main__": {"cli"},
    "doctor": {"weights", "world"},
    "camera": set(),
    "metrics": {"camera"},
    "models": set(),
    "weights": {"models"},
    "world": {"weights", "models", "camera"},
    "poses": {"camera"},
    "training": {"evaluation", "world", "weights", "models", "camera"},
    "envs": {"world", "metrics", "camera"},
    "evaluation": {
        "envs",
        "world",
        "weights",
        "models",
        "camera",
        "metrics",
        "poses",
    },
    "play": {"evaluation", "envs", "poses", "metrics", "camera"},
    "benchmarks": {
        "agents",
        "camera",
        "envs",
        "evaluation",
        "metrics",
        "models",
        "play",
        "poses",
        "training",
        "weights",
        "world",
    },
    "agents": {"envs", "evaluation", "world", "weights", "models", "camera", "metrics", "poses"},
}

# Foreign packages that only some parts may import.
_WITH_TORCH = {"models", "weights", "world", "training", "evaluation"}
CONFINED = {
    "torch": {*_WITH_TORCH, "benchmarks", "agents", "doctor"},
    "gymnasium": {"top", "envs", "evaluation", "benchmarks", "agents"},
    "hydra": {"core"},
    "omegaconf": {"core", "agents"},
    "safetensors": {"core", "weights", "benchmarks"},
    "stable_baselines3": {"envs", "benchmarks", "agents"},
}

# `models` is torch alone: no files, no network, no cameras.
MODELS_MAY_NOT = {"os", "pathlib", "io", "json", "requests", "urllib", "huggingface_hub", "cv2"}
MODELS_MAY_NOT |= {f"{PACKAGE}.files", f"{PACKAGE}.video"}


def part_of(module: str) -> str | None:
    """Part of the project that a dotted module is in, or None for foreign modules."""
    names = module.split(".")
    if names[0] != PACKAGE:
        return names[0] if names[0] in DIRECT else None
    below = names[1] if len(names) > 1 else ""
    return "core" if below in CORE else below if below in DIRECT else "top"


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
        if foreign in BESIDE:
            wrong.append(f"{module} imports {name}: it is installed as {PACKAGE}.{name}")
            continue
        # Reading the version is open to all, registering environments to the scripts.
        version = name == f"{PACKAGE}.__version__" or (part == "doctor" and target == "top")
        from_script = version or (target == "top" and part in {"agents", "benchmarks"})
        if part == "models" and MODELS_MAY_NOT & {name, foreign}:
            wrong.append(f"{module} imports {name}: models know no files, network or cameras")
        elif target is not None and target not in {part, "core"} and not from_script:
            if target not in DIRECT[part]:
                wrong.append(f"{module} imports {name}: {part} may not import {target}")
        elif part not in CONFINED.get(foreign, {part}):
            wrong.append(f"{module} imports {name}: only {sorted(CONFINED[foreign])} may")
    return wrong


def module_of(path: Path) -> str:
    """Dotted name of a file as it is installed; a package's ends in `__init__`."""
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGE, *names] if names[0] in BESIDE else names)


def sources() -> list[Path]:
    return sorted(
        path
        for folder in (PACKAGE, "agents", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    )


def graph(files: dict[str, str]) -> dict[str, set[str]]:
    """What each module imports of the others, wherever in the file and for whatever purpose."""
    bare = {name.removesuffix(".__init__"): name for name in files}
    return {name: set(imported(files[bare[name]], bare[name])) & bare.keys() for name in bare}


def imported(source: str, module: str) -> list[str]:
    """As `imports`, and `from a import b` as a.b too, which may be a module."""
    found = imports(source, module)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_no_module_imports_itself_in_the_end() -> None:
    files = {module_of(path): path.read_text(encoding="utf-8") for path in sources()}
    TopologicalSorter(graph(files)).prepare()


def test_planted_cycles_are_found() -> None:
    files = {
        "a.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import c",
        "a.c": "def f():\n    from a.d import x",
        "a.d": "import a.b",
    }
    with pytest.raises(CycleError):
        TopologicalSorter(graph(files)).prepare()
    TopologicalSorter(graph({**files, "a.d": "import os"})).prepare()


def test_imports_of_the_project_point_one_way() -> None:
    wrong = []
    for path in sources():
        wrong += violations(path.read_text(encoding="utf-8"), module_of(path))
    assert not wrong, "\n".join(wrong)
    assert len(sources()) > 40


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sana_wm_gym.camera.se3", "import torch"),
        ("sana_wm_gym.metrics.pose", "def f():\n    from torch import nn"),
        ("sana_wm_gym.metrics.pose", "from sana_wm_gym.poses.floors import Floor"),
        ("sana_wm_gym.poses.tracks", "from sana_wm_gym.metrics.pose import score_poses"),
        ("sana_wm_gym.camera.se3", "from sana_wm_gym.world.procedural.scenes import Scene"),
        ("sana_wm_gym.models.layers", "from sana_wm_gym.camera import ray_matrices"),
        ("sana_wm_gym.models.layers", "from pathlib import Path"),
        ("sana_wm_gym.models.layers", "from ..weights import world_file"),
        ("sana_wm_gym.models.layers", "from sana_wm_gym import weights"),
        ("sana_wm_gym.models.layers", "from sana_wm_gym.files import sha256"),
        ("sana_wm_gym.files", "from sana_wm_gym.camera.se3 import invert"),
        ("sana_wm_gym.files", "from sana_wm_gym import ENV_ID"),
        ("sana_wm_gym.files", "import torch"),
        ("sana_wm_gym.weights.world_file", "import sana_wm_gym.world.learned.sana_world"),
        ("sana_wm_gym.world.procedural.procedural_world", "from gymnasium import spaces"),
        (
            "sana_wm_gym.world.procedural.procedural_world",
            "from sana_wm_gym.metrics.pose import score",
        ),
        ("sana_wm_gym.world.procedural.procedural_world", "from sana_wm_gym import ENV_ID"),
        ("sana_wm_gym.world.learned.sampler", "from sana_wm_gym.training import objective"),
        ("sana_wm_gym.envs.sana_wm_env", "import torch.nn.functional as F"),
        ("sana_wm_gym.envs.sana_wm_env", "import hydra"),
        ("sana_wm_gym.envs.sana_wm_env", "from sana_wm_gym.agents import ppo"),
        ("benchmarks.demo", "from agents.planners import CEM"),
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
        ("sana_wm_gym.training.train", "import torch"),
        ("sana_wm_gym.provenance", "from sana_wm_gym import __version__"),
        ("sana_wm_gym.metrics.pose", "from sana_wm_gym import files"),
        ("sana_wm_gym.agents.ppo", "from .planners import CEM"),
        ("sana_wm_gym.agents.ppo", "from sana_wm_gym.files import write_json"),
        (
            "benchmarks.demo",
            "import sana_wm_gym, gymnasium\nfrom sana_wm_gym.envs import SanaWMEnv",
        ),
    ],
)
def test_allowed_imports_are_allowed(module: str, source: str) -> None:
    assert violations(source, module) == []
