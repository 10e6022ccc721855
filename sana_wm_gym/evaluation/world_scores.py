"""Scores of a learned world: PSNR to ground truth, camera-control errors, image statistics.

Every function takes rollouts and clips and returns plain values, so that the ground-truth world
can be scored by the same functions as the learned one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from sana_wm_gym.evaluation.score import RolloutScore, score_rollout
from sana_wm_gym.evaluation.variant_scores import VariantScore
from sana_wm_gym.metrics import Convention, PoseScore
from sana_wm_gym.models.codec import GROUP, PatchCodec
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.training.dataset import draw_walk
from sana_wm_gym.training.validation import HeldOutClip
from sana_wm_gym.world.learned.sana_state import SanaState
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import NoiseSchedule
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.world_model import CHUNK_FRAMES, ChunkInput, Start, WorldSpec

Array = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]
Tick = Callable[[int], None]

_RESAMPLES = 2000
MINUTE_FRAMES = 40 * CHUNK_FRAMES


class WatchedWorld(SanaWorld):
    """A learned world that reports every chunk it generates, and variations of it for ablations.

    Args:
        world: The world; its networks are shared.
        tick: Called with the number of chunks after every call of `advance`.
        true_anchor: Place first frames by their true pose in the scene instead of by the world's
            localiser.
        schedule: Noise levels instead of the world's own.

    Attributes:
        broken: Chunks so far with a latent that is NaN or infinite.
    """

    def __init__(
        self,
        world: SanaWorld,
        tick: Tick,
        *,
        true_anchor: bool = False,
        schedule: NoiseSchedule | None = None,
    ) -> None:
        vars(self).update(vars(world if schedule is None else replace(world, schedule=schedule)))
        self.broken = 0
        self._tick = tick
        self._true_anchor = true_anchor

    def begin(self, start: Start, seed: int) -> SanaState:
        """As `SanaWorld.begin`.

        Raises:
            ValueError: The true anchor is wanted, and the start has no pose in a scene.
        """
        state = super().begin(start, seed)
        if not self._true_anchor:
            return state
        if start.scene_c2w is None:
            raise ValueError("given a start without scene_c2w; expected the pose of its image")
        return replace(state, anchor=start.scene_c2w)

    def advance(self, states: Sequence[SanaState], inputs: Sequence[ChunkInput]) -> list[SanaState]:
        """As `SanaWorld.advance`."""
        after = super().advance(states, inputs)
        self.broken += sum(not bool(torch.isfinite(state.latents).all()) for state in after)
        self._tick(len(after))
        return after


def squared_errors(frames: Frames, truth: Frames) -> Array:
    """Mean squared error in grey levels of every chunk of every clip, [b, n].

    Args:
        frames: uint8 [b, 24 n + 1, H, W, 3]; the first frame is given and does not count.
        truth: The same shape.
    """
    rows = []
    for made, true in zip(frames[:, 1:], truth[:, 1:], strict=True):
        # One clip at a time: a minute of video in float is large.
        difference = made.astype(np.float32) - true
        per_frame = (difference**2).mean(axis=(1, 2, 3), dtype=np.float64)
        rows.append(per_frame.reshape(-1, CHUNK_FRAMES).mean(axis=1))
    return np.stack(rows)


def psnr(errors: Array) -> Array:
    """PSNR in dB per chunk, errors averaged over clips (axis 0) before the logarithm."""
    return np.asarray(10 * np.log10(255.0**2 / np.maximum(errors.mean(axis=0), 1e-7)))


@dataclass(frozen=True)
class Margin:
    """By how much one PSNR exceeds another, dB per chunk [n], with the 95 % interval that
    resampling the clips gives."""

    mean: Array
    low: Array
    high: Array

    @staticmethod
    def of(better: Array, worse: Array) -> Margin:
        """Compare squared errors [b, n] of the same clips."""
        rng = np.random.default_rng(0)
        picks = rng.integers(len(better), size=(_RESAMPLES, len(better)))
        resampled = np.stack([psnr(better[pick]) - psnr(worse[pick]) for pick in picks])
        low, high = np.percentile(resampled, (2.5, 97.5), axis=0)
        return Margin(psnr(better) - psnr(worse), low, high)


@dataclass(frozen=True)
class PsnrErrors:
    """Squared errors [b, n] against the ground truth, of the world and of baselines.

    Attributes:
        own: Under the clip's own commands.
        shuffled: The same world and first frames under another clip's commands.
        repeat: The first frame, repeated.
        codec: The ground truth, encoded and decoded: a ceiling for these latents.
    """

    own: Array
    shuffled: Array
    repeat: Array
    codec: Array


def repeat_first(truth: Frames) -> Frames:
    """The video [b, n, ...] of a world whose frames never change."""
    return np.broadcast_to(truth[:, :1], truth.shape)


@dataclass(frozen=True)
class Condition:
    """The same clips under one condition, such as another prompt.

    Attributes:
        name: What differs.
        own: Squared errors [b, n] under the clips' own commands.
        variants: Which variants the frames show; None where nothing varies.
    """

    name: str
    own: Array
    variants: VariantScore | None


@dataclass(frozen=True)
class Check:
    """One value and its bound; `value` and `passed` are None where there is no value."""

    name: str
    value: float | None
    bound: str
    passed: bool | None

    @staticmethod
    def at_least(name: str, value: float | None, bound: float) -> Check:
        """A value that should not be smaller than a bound."""
        return Check(name, value, f">= {bound:g}", None if value is None else value >= bound)

    @staticmethod
    def at_most(name: str, value: float | None, bound: float) -> Check:
        """A value that should not be larger than a bound."""
        return Check(name, value, f"<= {bound:g}", None if value is None else value <= bound)


@torch.inference_mode()
def through_codec(codec: PatchCodec, truth: Frames) -> Frames:
    """Encode and decode true frames, uint8 [b, 24 n + 1, H, W, 3]."""
    videos = []
    for clip in truth:
        pixels = torch.from_numpy(clip).float() / 255
        latents = codec.encode_groups(pixels[1:].unflatten(0, (-1, GROUP)))
        first = codec.begin(codec.encode_image(pixels[:1]))
        decoded, _ = codec.decode(latents.movedim(0, 1)[None], first)
        made = (decoded[0] * 255).round().to(torch.uint8).numpy()
        videos.append(np.concatenate([clip[:1], made]))
    return np.stack(videos)


@dataclass(frozen=True)
class CameraErrorMeans:
    """One pose error, averaged over clips.

    Attributes:
        generated: Mean over scored clips.
        motionless: Mean of a camera that never moves, over the same clips.
        floor: Mean of the same estimator on true frames; None where it failed on all.
        ratio: `generated` over `motionless`.
        ratio_with_failures: The same over all requested clips, where a clip without an estimate
            counts as motionless.
    """

    generated: float
    motionless: float
    floor: float | None
    ratio: float
    ratio_with_failures: float


@dataclass(frozen=True)
class CameraErrors:
    """Errors of the cameras estimated from generated frames against the commanded ones.

    Attributes:
        convention: Name of the pose-error convention.
        clips_generated: Clips generated.
        clips_scored: Of those, the ones whose poses could be estimated and scored.
        floor_clips: Clips whose true frames could be scored.
        frames_generated: Frames of all clips.
        frames_scored: Frames with a pose, in scored clips.
        failures: Number of clips by reason code.
        modes: Number of clips by the estimator's mode.
        rot_err: Degrees; None if no clip was scored.
        trans_err: Metres; None if no clip was scored.
    """

    convention: str
    clips_generated: int
    clips_scored: int
    floor_clips: int
    frames_generated: int
    frames_scored: int
    failures: dict[str, int]
    modes: dict[str, int]
    rot_err: CameraErrorMeans | None
    trans_err: CameraErrorMeans | None


def score_clips(
    frames: Frames,
    clips: Sequence[HeldOutClip],
    fps: float,
    estimator: PoseEstimator,
    tick: Tick,
) -> list[RolloutScore]:
    """Pose scores of generated frames [b, 24 n + 1, H, W, 3], each next to its floor."""
    scores = []
    for video, clip in zip(frames, clips, strict=True):
        scores.append(
            score_rollout(
                video, clip.c2w, clip.start.intrinsics, fps, estimator, truth_frames=clip.truth
            )
        )
        tick(1)
    return scores


def camera_errors(scores: Sequence[RolloutScore], convention: Convention) -> CameraErrors:
    """Summarise clips under one convention: errors first per clip, then averaged."""
    name = convention.name
    scored = [s for s in scores if isinstance(s.scores[name], PoseScore)]
    floors = [s.floor[name] for s in scores if s.floor is not None]
    return CameraErrors(
        convention=name,
        clips_generated=len(scores),
        clips_scored=len(scored),
        floor_clips=sum(isinstance(floor, PoseScore) for floor in floors),
        frames_generated=sum(s.frames_asked for s in scores),
        frames_scored=sum(s.frames_scored for s in scored),
        failures=dict(Counter(c for s in scores if isinstance(c := s.scores[name], str))),
        modes=dict(Counter(s.info.mode for s in scores)),
        rot_err=_means(scores, name, "rot_err"),
        trans_err=_means(scores, name, "trans_err"),
    )


def _means(scores: Sequence[RolloutScore], name: str, error: str) -> CameraErrorMeans | None:
    def value(score: PoseScore | str | None) -> float | None:
        return getattr(score, error) if isinstance(score, PoseScore) else None

    rows = [
        (
            value(s.scores[name]),
            value(s.motionless[name]),
            value(s.floor[name] if s.floor else None),
        )
        for s in scores
    ]
    comparable = [(made, still, floor) for made, still, floor in rows if still is not None]
    pairs = [(made, still) for made, still, _ in comparable if made is not None]
    if not pairs:
        return None
    filled = [still if made is None else made for made, still, _ in comparable]
    floors = [floor for _, _, floor in comparable if floor is not None]
    generated, motionless = np.mean(pairs, axis=0)
    return CameraErrorMeans(
        generated=float(generated),
        motionless=float(motionless),
        floor=float(np.mean(floors)) if floors else None,
        ratio=float(generated / motionless),
        ratio_with_failures=float(np.mean(filled) / np.mean([still for _, still, _ in comparable])),
    )


STATISTICS = ("red mean", "green mean", "blue mean", "red std", "green std", "blue std")


def frame_statistics(frames: Frames) -> Array:
    """Mean and standard deviation of every colour channel in grey levels, [n, 6]."""
    pixels = frames.reshape(len(frames), -1, 3).astype(np.float64)
    return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1)


def training_statistics(spec: WorldSpec, walks: int) -> Array:
    """`frame_statistics` of every 16th frame of minute-long training walks, `walks` per map, each
    in an appearance of its own."""
    rows = []
    for number in spec.scenes:
        for index in range(walks):
            scene, walk = draw_walk(number, index, MINUTE_FRAMES, spec.start_radius)
            frames = render(scene, walk[::16], np.array(spec.intrinsics), (spec.height, spec.width))
            rows.append(frame_statistics(frames))
    return np.concatenate(rows)


@dataclass(frozen=True)
class Range:
    """Where image statistics lie, [6] each in the order of `STATISTICS`.

    Attributes:
        lowest: Of training frames.
        highest: Of training frames.
        made_lowest: Of the frames in question.
        made_highest: Of the frames in question.
        inside: Fraction of those frames with all six inside the training range.
    """

    lowest: Array
    highest: Array
    made_lowest: Array
    made_highest: Array
    inside: float

    @staticmethod
    def of(made: Array, training: Array) -> Range:
        """Compare rows of `frame_statistics`."""
        lowest, highest = training.min(axis=0), training.max(axis=0)
        inside = ((made >= lowest) & (made <= highest)).all(axis=1)
        return Range(
            lowest, highest, made.min(axis=0), made.max(axis=0), inside=float(inside.mean())
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values for json."""
        return {
            name: value if isinstance(value, float) else value.tolist()
            for name, value in vars(self).items()
        }
