"""A run small enough for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sana_wm_gym.models.codec import CodecConfig
from sana_wm_gym.training.config import TINY, TrainConfig
from sana_wm_gym.training.fit_codec import CodecFit
from sana_wm_gym.training.optimizer import OptimizerConfig
from sana_wm_gym.world.procedural.appearance import Surface

NETWORK = replace(TINY, width=32, depth=3, heads=2, mlp_ratio=1.0)
CODEC = CodecConfig(channels=8, hidden=16, depth=1)
FREQUENCIES = (1.5,)
SURFACES = (Surface("door", ("red", "blue")), Surface("crates", ("green", "white", "grey")))


def small(folder: Path, **changes: Any) -> TrainConfig:
    """A run of seconds."""
    settings: dict[str, Any] = {
        "folder": str(folder),
        "scenes": (3,),
        "size": 32,
        "frequencies": FREQUENCIES,
        "network": NETWORK,
        "codec": CODEC,
        "codec_fit": CodecFit(walks=1, frames=48, steps=2, batch=2),
        "localiser_fit": None,
        "batch": 1,
        "streams": 2,
        "lengths": (4, 6),
        "walks": (2, 1),
        "length_weights": (0.5, 0.5),
        "steps": 6,
        "save_every": 2,
        "validate_every": 100,
        "validation_clips": 2,
        "autocast": False,
        "optimizer": OptimizerConfig(warmup=4),
    }
    return TrainConfig(**(settings | changes))
