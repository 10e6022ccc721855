"""One training run as values; `conf/train.yaml` holds the recipe of the shipped weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sana_wm_gym.checks import require_device, require_integer, require_number
from sana_wm_gym.models.codec import CodecConfig
from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.training.fit_codec import CodecFit
from sana_wm_gym.training.fit_localiser import LocaliserFit
from sana_wm_gym.training.objective import ObjectiveConfig
from sana_wm_gym.training.optimizer import OptimizerConfig
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.procedural.appearance import Surface
from sana_wm_gym.world.procedural.courtyard import COURTYARD

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
"""The embedded world's generator; latents, cameras and words are set by `TrainConfig.generator`."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Its schedules count steps, so that a faster machine is not another recipe.

    Attributes:
        folder: Where data, checkpoints and logs go.
        init: World file or folder of another run to start from, or None. A file has weights, codec
            and localiser; a folder also has optimizers and the number of steps, so that a decay to
            zero can branch off a run at a constant rate.
        scenes: Scenes to learn.
        start_radius: How far from a scene's most open spot clips begin, in metres; None for
            anywhere. From there they go anywhere.
        size: Frame height and width in pixels.
        frequencies: Of the sines and cosines of Pluecker coordinates, radians per unit.
        network: Size of the generator; its channels follow from the codec, the frequencies and
            the maps.
        codec: Size of the codec.
        codec_fit: How the codec is fitted.
        localiser_fit: How the localiser is fitted; None gives the generator exact anchors and
            leaves the world without one.
        localiser_frames: Frames of the map that the localiser is fitted to.
        foreign_scenes: Other scenes whose frames it learns to reject.
        estimated_anchors: Fraction of walks placed by the localiser instead of exactly.
        word_dropout: Probability with which a surface is left out of a walk's prompt.
        prompt_dropout: Probability with which the whole prompt is.
        batch: Clips per step and process.
        streams: Episodes in progress, one step each in turn.
        unroll: Chunks per step through which gradients flow.
        lengths: Episode lengths in chunks.
        walks: Walks of each length in each map.
        length_weights: Relative frequency of each length.
        steps: Steps of the whole run.
        save_every: Steps between checkpoints.
        validate_every: Steps between held-out rollouts.
        validation_clips: Held-out rollouts, of 4 chunks each.
        seed: Source of weights, clips and noise.
        threads: CPU threads.
        device: Where the generator is trained.
        autocast: Matrix products in bfloat16.
        objective: Noise levels and weights of the loss.
        optimizer: Learning rates.
    """

    folder: str = "outputs/tiny"
    init: str | None = None
    scenes: Sequence[int] = (COURTYARD,)
    start_radius: float | None = None
    size: int = 64
    frequencies: Sequence[float] = (1.5, 3.0, 6.0, 12.0)
    network: SanaWMConfig = TINY
    codec: CodecConfig = field(default_factory=CodecConfig)
    codec_fit: CodecFit = field(default_factory=CodecFit)
    localiser_fit: LocaliserFit | None = field(default_factory=LocaliserFit)
    localiser_frames: int = 150_000
    foreign_scenes: int = 1000
    estimated_anchors: float = 0.7
    word_dropout: float = 0.15
    prompt_dropout: float = 0.1
    batch: int = 12
    streams: int = 8
    unroll: int = 2
    lengths: Sequence[int] = (4, 8, 40)
    walks: Sequence[int] = (3000, 500, 100)
    length_weights: Sequence[float] = (0.7, 0.2, 0.1)
    steps: int = 60_000
    save_every: int = 100
    validate_every: int = 500
    validation_clips: int = 24
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    autocast: bool = True
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.size % self.codec.patch or self.size < 16:
            raise ValueError(
                f"given size={self.size}; expected a multiple of {self.codec.patch}, at least 16"
            )
        if not len(self.lengths) == len(self.walks) == len(self.length_weights):
            raise ValueError(
                f"given {len(self.lengths)} lengths, {len(self.walks)} numbers of walks and "
                f"{len(self.length_weights)} weights; expected one of each per length"
            )
        for name in ("batch", "streams", "unroll", "steps", "save_every", "validate_every"):
            require_integer(name, getattr(self, name), 1)
        require_device("device", self.device)
        for count in self.walks:
            require_integer("walks", count, 1)
        for name in ("estimated_anchors", "word_dropout", "prompt_dropout"):
            require_number(name, getattr(self, name), 0, 1)

    def generator(self, surfaces: tuple[Surface, ...]) -> SanaWMConfig:
        """Size of the generator for maps with these surfaces."""
        captions = SurfaceCaptions(surfaces)
        return replace(
            self.network,
            latent_channels=self.codec.channels,
            plucker_channels=48 * (1 + 2 * len(self.frequencies)),
            text_channels=captions.channels if surfaces else None,
            text_tokens=captions.tokens,
        )
