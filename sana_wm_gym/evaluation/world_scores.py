"""Scores of a learned world on held-out clips: PSNR with baselines, camera errors, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sana_wm_gym.evaluation.command_agreement import SPANS_S, command_agreement, scene_depths
from sana_wm_gym.evaluation.held_out import Array, Frames, HeldOutClip, Tick, mean_psnr
from sana_wm_gym.evaluation.score import RolloutScore, ScoreOptions, Scores, score_rollout
from sana_wm_gym.metrics import CommandAgreement, Convention, PoseScore, mean_agreement
from sana_wm_gym.models.codec import GROUP, PatchCodec
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.world.procedural.renderer import render, render_geometry
from sana_wm_gym.world.procedural.scenes import generate_scene
from sana_wm_gym.world.procedural.walks import draw_walk
from sana_wm_gym.world.world_model import WorldSpec

_RESAMPLES = 2000


@dataclass(frozen=True)
class Margin:
    """By how much one PSNR exceeds another, dB per chunk [k], with a bootstrap 95 % interval over
    clips."""

    mean: Array
    low: Array
    high: Array

    @staticmethod
    def of(better: Array, worse: Array) -> Margin:
        """Compare squared errors [b, k] of the same clips."""
        rng = np.random.default_rng(0)
        picks = rng.integers(len(better), size=(_RESAMPLES, len(better)))
        resampled = np.stack([mean_psnr(better[pick]) - mean_psnr(worse[pick]) for pick in picks])
        low, high = np.percentile(resampled, (2.5, 97.5), axis=0)
        return Margin(mean_psnr(better) - mean_psnr(worse), low, high)


@dataclass(frozen=True)
class PsnrErrors:
    """Squared errors [b, k] per chunk against the ground truth, of a world and of baselines.

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

    def to_dict(self) -> dict[str, Any]:
        """PSNR per chunk of each, and margins over two baselines, for json."""
        values: dict[str, Any] = {
            f"psnr_{name}": mean_psnr(errors).tolist() for name, errors in vars(self).items()
        }
        for name in ("repeat", "shuffled"):
            margin = Margin.of(self.own, getattr(self, name))
            values[f"own_over_{name}_db"] = {k: v.tolist() for k, v in vars(margin).items()}
        return values


@torch.inference_mode()
def through_codec(codec: PatchCodec, truth: Frames) -> Frames:
    """Encode and decode true frames, uint8 [b, n + 1, H, W, 3]."""
    videos = []
    for clip in truth:
        pixels = torch.from_numpy(clip).float() / 255
        latents = codec.encode_groups(pixels[1:].unflatten(0, (-1, GROUP)))
        first = codec.begin(codec.encode_image(pixels[:1]))
        decoded, _ = codec.decode(latents.movedim(0, 1)[None], first)
        videos.append(np.concatenate([clip[:1], codec.to_bytes(decoded)[0].numpy()]))
    return np.stack(videos)


def score_cameras(
    frames: Frames, clips: Sequence[HeldOutClip], fps: float, estimator: PoseEstimator, tick: Tick
) -> list[RolloutScore]:
    """Pose scores of generated frames [b, n + 1, H, W, 3] with floors; `tick` after each clip."""
    scores = []
    for video, clip in zip(frames, clips, strict=True):
        scores.append(
            score_rollout(
                video,
                clip.c2w,
                clip.start.intrinsics,
                fps,
                estimator,
                truth_frames=clip.truth,
                options=ScoreOptions(depths_m=scene_depths(median_depth(clip))),
            )
        )
        tick(1)
    return scores


def median_depth(clip: HeldOutClip) -> float:
    """Of what the first frame of a clip in a procedural scene shows, metres."""
    start, size = clip.start, clip.truth.shape[1:3]
    assert start.scene is not None and start.scene_c2w is not None
    scene = generate_scene(start.scene)
    depth, _ = render_geometry(scene, start.scene_c2w[None], start.intrinsics, (size[0], size[1]))
    return float(np.median(depth))


def agreements(
    frames: Frames, clips: Sequence[HeldOutClip], fps: float
) -> dict[float, CommandAgreement]:
    """Command agreement by span in seconds over generated videos [b, n + 1, H, W, 3], each along
    its clip's own command."""
    measured = [
        command_agreement(
            video,
            clip.c2w,
            clip.start.intrinsics,
            fps,
            depths_m=scene_depths(median_depth(clip)),
        )
        for video, clip in zip(frames, clips, strict=True)
    ]
    return {span: mean_agreement([one[span] for one in measured]) for span in SPANS_S}


def camera_errors(scores: Sequence[RolloutScore], convention: Convention) -> dict[str, Any]:
    """Camera errors of clips under one convention, for json: errors first per clip, then averaged.

    Returns:
        Numbers of clips and frames, of clips whose true frames could be scored (`floor_clips`), of
        clips by reason of failure and by the estimator's mode; and `rot_err` (degrees) and
        `trans_err` (metres), None where no clip was scored, each with the means

        generated             over scored clips
        motionless            of a camera that never moves, over the same clips
        floor                 of the same estimator on true frames; None where it failed on all
        ratio                 `generated` over `motionless`
        ratio_with_failures   the same over all clips, where one without estimate counts as
                              motionless
    """
    name = convention.name
    scored = [s for s in scores if isinstance(s.scores[name], PoseScore)]
    floors = [s.floor[name] for s in scores if s.floor is not None]
    return {
        "convention": name,
        "clips_generated": len(scores),
        "clips_scored": len(scored),
        "floor_clips": sum(isinstance(floor, PoseScore) for floor in floors),
        "frames_generated": sum(s.frames_asked for s in scores),
        "frames_scored": sum(s.frames_scored for s in scored),
        "failures": dict(Counter(c for s in scores if isinstance(c := s.scores[name], str))),
        "modes": dict(Counter(s.info.mode for s in scores)),
        "rot_err": _means(scores, name, "rot_err"),
        "trans_err": _means(scores, name, "trans_err"),
    }


def _means(scores: Sequence[RolloutScore], name: str, error: str) -> dict[str, Any] | None:
    def value(found: Scores | None) -> float | None:
        score = None if found is None else found[name]
        return getattr(score, error) if isinstance(score, PoseScore) else None

    rows = [(value(s.scores), value(s.motionless), value(s.floor)) for s in scores]
    known = np.array([row for row in rows if row[1] is not None], float).reshape(-1, 3)
    made, still, floor = known.T
    placed = np.isfinite(made)  # None has become NaN
    if not placed.any():
        return None
    generated, motionless = float(made[placed].mean()), float(still[placed].mean())
    filled = np.where(placed, made, still).mean()
    return {
        "generated": generated,
        "motionless": motionless,
        "floor": float(np.nanmean(floor)) if np.isfinite(floor).any() else None,
        "ratio": generated / motionless,
        "ratio_with_failures": float(filled / still.mean()),
    }


STATISTICS = ("red mean", "green mean", "blue mean", "red std", "green std", "blue std")


def frame_statistics(frames: Frames) -> Array:
    """Mean and standard deviation of every colour channel in grey levels, [n, 6]."""
    pixels = frames.reshape(len(frames), -1, 3).astype(np.float64)
    return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1)


def training_statistics(spec: WorldSpec, walks: int, frames: int = 960) -> Array:
    """`frame_statistics` of every 16th frame of training walks of so many frames, `walks` per
    scene, each in an appearance of its own."""
    rows = []
    for number in spec.scenes:
        for index in range(walks):
            scene, walk = draw_walk(number, index, frames, spec.start_radius)
            seen = render(scene, walk[::16], np.array(spec.intrinsics), spec.size)
            rows.append(frame_statistics(seen))
    return np.concatenate(rows)


def statistics_range(made: Array, training: Array) -> dict[str, Any]:
    """Ranges of `frame_statistics` in training and in `made`, for json, and the fraction of frames
    with all six inside the training range."""
    lowest, highest = training.min(axis=0), training.max(axis=0)
    return {
        "lowest": lowest.tolist(),
        "highest": highest.tolist(),
        "made_lowest": made.min(axis=0).tolist(),
        "made_highest": made.max(axis=0).tolist(),
        "inside": float(((made >= lowest) & (made <= highest)).all(axis=1).mean()),
    }
