"""A replay buffer in checkpoints: each slot is written once, and each checkpoint holds all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("stable_baselines3")

from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from sana_wm_gym.agents.training.sb3_state import load_replay, save_replay

ENVIRONMENTS = 2
_PART = spaces.Box(-1, 1, (2,), np.float32)
_PARTS = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), _PART))


def memory(kind: type[ReplayBuffer], slots: int) -> ReplayBuffer:
    space = spaces.Box(0, 255, (2, 2, 1), np.uint8) if kind is ReplayBuffer else _PARTS
    more: dict[str, Any] = {"env": None} if kind is HerReplayBuffer else {}
    return kind(
        slots * ENVIRONMENTS, space, spaces.Discrete(3), device="cpu", n_envs=ENVIRONMENTS, **more
    )


def fill(buffer: ReplayBuffer, rng: np.random.Generator) -> None:
    """One more slot."""

    def view() -> Any:
        if isinstance(buffer, DictReplayBuffer):
            return {name: rng.uniform(-1, 1, (ENVIRONMENTS, 2)) for name in _PARTS}
        return rng.integers(0, 256, (ENVIRONMENTS, 2, 2, 1), dtype=np.uint8)

    buffer.add(
        view(),
        view(),
        rng.integers(0, 3, ENVIRONMENTS),
        rng.normal(size=ENVIRONMENTS),
        rng.random(ENVIRONMENTS) < 0.4,
        [{"TimeLimit.truncated": bool(late)} for late in rng.random(ENVIRONMENTS) < 0.3],
    )


def contents(buffer: Any) -> dict[str, Any]:
    """All its arrays and counters, whatever their names."""
    found = {}
    for name, value in vars(buffer).items():
        if isinstance(value, dict):
            found |= {f"{name}.{part}": one for part, one in value.items()}
        else:
            found[name] = value
    return {
        name: (value.dtype, value.shape, value.tobytes())
        if isinstance(value, np.ndarray)
        else value
        for name, value in found.items()
        if isinstance(value, np.ndarray | int) and name != "infos"
    }


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([ReplayBuffer, DictReplayBuffer, HerReplayBuffer]),
    slots=st.integers(1, 9),
    between=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=7),
    links=st.booleans(),
)
def test_any_checkpoint_restores_the_memory_and_writes_each_slot_once(
    tmp_path_factory: pytest.TempPathFactory,
    kind: type[ReplayBuffer],
    slots: int,
    between: list[tuple[int, bool]],
    links: bool,
) -> None:
    folder = tmp_path_factory.mktemp("replay")
    rng = np.random.default_rng(0)
    buffer, added = memory(kind, slots), 0
    earlier: Path | None = None
    files: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        if not links:
            patch.setattr("os.link", _no_links)
        for number, (count, resumed) in enumerate(between):
            for _ in range(count):
                fill(buffer, rng)
            added += count
            here = folder / str(number)
            save_replay(buffer, added, here, earlier)
            if earlier is not None:
                shutil.rmtree(earlier)
            segments = sorted(path.name for path in here.glob("*-*.safetensors"))
            spans = [tuple(map(int, name.partition(".")[0].split("-"))) for name in segments]
            live = max(0, added - slots)
            # One after another up to now, none of which is forgotten, one of which is new at most.
            assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))
            assert all(end > live for _, end in spans) and (not spans or spans[-1][1] == added)
            assert bool(spans) == (added > 0)
            assert len(set(segments) - set(files)) <= 1
            if links:
                now = {name: (here / name).stat().st_ino for name in segments}
                assert all(files[name] == now[name] for name in now if name in files)
                files = now
            else:
                files = dict.fromkeys(segments, 0)
            loaded = memory(kind, slots)
            load_replay(loaded, added, here)
            assert contents(loaded) == contents(buffer)
            if resumed:
                buffer = loaded
            earlier = here


def _no_links(source: Any, target: Any) -> None:
    raise PermissionError("this disk knows no links")
