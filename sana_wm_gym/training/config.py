"""One training run as values; `conf/train.yaml` holds the recipe of the shipped weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.training.objective import ObjectiveConfig
from sana_wm_gym.training.optimizer import OptimizerConfig

TINY = SanaWMConfig(
    latent_channels=48,
    width=192,
    depth=6,
    heads=4,
    softmax_every=3,
    mlp_ratio=2.0,
    text_channels=None,
    position_entries=0,
    unread_entries=False,
)
"""The embedded world's generator: the SANA-WM transformer with 4.6 M parameters."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        folder: Where data, checkpoints and logs go.
        scenes: Maps to learn.
        start_radius: How far from a map's most open spot clips begin, in metres; None for
            anywhere. From there they go anywhere.
        size: Frame height and width in pixels.
        codec_minutes: Time to train the decoder's correction for; 0 leaves it out.
        batch: Clips per step and process.
        streams: Episodes that take turns, so that successive steps differ.
        unroll: Chunks per step through which gradients flow.
        lengths: Episode lengths in chunks.
        walks: Walks of each length in each map.
        length_weights: How often each length is drawn.
        hours: Time to train the generator for; learning rate and history follow the share of it
            that is over.
        save_minutes: Time between checkpoints.
        validate_minutes: Time between held-out rollouts.
        validation_clips: Held-out rollouts, of 4 chunks each.
        seed: Source of weights, clips and noise.
        threads: CPU threads.
        autocast: Matrix products in bfloat16.
        objective: Noise levels and history.
        optimizer: Learning rates.
    """

    folder: str = "outputs/tiny"
    scenes: Sequence[int] = (8,)
    start_radius: float | None = 0.7
    size: int = 64
    codec_minutes: float = 5.0
    batch: int = 6
    streams: int = 8
    unroll: int = 2
    lengths: Sequence[int] = (4, 8, 40)
    walks: Sequence[int] = (1600, 400, 48)
    length_weights: Sequence[float] = (0.7, 0.25, 0.05)
    hours: float = 1.56
    save_minutes: float = 3.0
    validate_minutes: float = 7.0
    validation_clips: int = 16
    seed: int = 0
    threads: int = 1
    autocast: bool = True
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.size % 8 or self.size < 16:
            raise ValueError(f"given size={self.size}; expected a multiple of 8, at least 16")
        if not len(self.lengths) == len(self.walks) == len(self.length_weights):
            raise ValueError(
                f"given {len(self.lengths)} lengths, {len(self.walks)} numbers of walks and "
                f"{len(self.length_weights)} weights; expected one of each per length"
            )
        if min(self.walks) < 1:
            raise ValueError(f"given walks={list(self.walks)}; expected at least 1 of each length")
        for name in ("batch", "streams", "unroll", "hours"):
            if getattr(self, name) <= 0:
                raise ValueError(f"given {name}={getattr(self, name)}; expected more than 0")
