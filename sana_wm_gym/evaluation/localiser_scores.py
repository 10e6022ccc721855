"""Pose errors of a localiser in its scene, and whether it recognises foreign pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sana_wm_gym.camera.se3 import geodesic_angle
from sana_wm_gym.evaluation.foreign_pictures import foreign_pictures
from sana_wm_gym.evaluation.held_out import Array, Frames
from sana_wm_gym.models.localiser import Localisation, Localiser
from sana_wm_gym.world.procedural.appearance import draw_appearance
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import Scene, cast, sample_pose, with_appearance

FALSE_ALARMS = 0.05
"""Fraction of the scene's own frames taken for foreign at which recognition is measured."""
BOUNDS = {"metres": 0.05, "degrees": 0.7, "metres_p95": 0.3, "degrees_p95": 4.0}
LEAST_RECOGNISED = 0.9
DISTANCES = (1.6, 2.0, 2.5, 3.0, 4.0, 5.0, np.inf)
"""Edges of the groups by distance, in metres."""
OCTANTS = ("+z", "+z+x", "+x", "-z+x", "-z", "-z-x", "-x", "+z-x")
"""Headings of 45 degrees each, the first around +z, then turning right."""

_STREAM = 71


@dataclass(frozen=True)
class PoseErrors:
    """Medians and 95th percentiles of the position and rotation errors of a group of frames, None
    for an empty group."""

    group: str
    count: int
    metres: float | None
    degrees: float | None
    metres_p95: float | None
    degrees_p95: float | None

    @staticmethod
    def of(group: str, predicted: Array, true: Array) -> PoseErrors:
        """Summarise predicted poses [n, 4, 4]."""
        if not len(true):
            return PoseErrors(group, 0, None, None, None, None)
        quantiles = np.quantile(pose_errors(predicted, true), (0.5, 0.95), axis=1)
        return PoseErrors(group, len(true), *quantiles.ravel().tolist())


def pose_errors(predicted: Array, true: Array) -> tuple[Array, Array]:
    """Position errors in metres [n] and rotation errors in degrees [n] of poses [n, 4, 4]."""
    metres = np.linalg.norm(predicted[:, :3, 3] - true[:, :3, 3], axis=1)
    return metres, np.degrees(geodesic_angle(predicted[:, :3, :3], true[:, :3, :3]))


def localise(localiser: Localiser, frames: Frames) -> Localisation:
    """Localise frames uint8 [n, H, W, 3], channels last as everywhere outside `models`."""
    return localiser(torch.from_numpy(frames).movedim(-1, 1))


def render_varied(
    scene: Scene,
    poses: Array,
    rng: np.random.Generator,
    intrinsics: Sequence[float] | None,
    size: int,
) -> Frames:
    """Frames at poses [n, 4, 4], uint8 [n, size, size, 3], each in a random appearance; the
    renderer's default intrinsics for None."""
    lens = np.array(default_intrinsics(size, size) if intrinsics is None else intrinsics)
    frames = []
    for pose in poses:
        varied = with_appearance(scene, draw_appearance(scene.surfaces, rng))
        frames.append(render(varied, pose[None], lens, (size, size)))
    return np.concatenate(frames)


def localiser_report(
    localiser: Localiser,
    scene: Scene,
    intrinsics: Sequence[float] | None = None,
    starts: int = 1024,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a localiser on held-out starts of its scene and on foreign pictures.

    Args:
        localiser: What to measure; its poses are in the axes of `scene`.
        scene: Where starts are drawn.
        intrinsics: (fx, fy, cx, cy) in pixels; None for the renderer's default.
        starts: Number of held-out starts, >= 512 for steady tails.
        seed: Source of the starts and of the foreign pictures.

    Returns:
        For json: `PoseErrors` of all starts (`overall`), `by_distance` to the surface straight
        ahead and `by_heading`; `recognition` by kind of foreign picture, all in the last row:
        number, fraction recognised when 5 % of the scene's own frames are taken for foreign, and
        fraction with a confidence below 0.5, where a world with this localiser warns; that fraction
        of held-out starts (`false_alarms_at_half`); and the packages of photographs that are
        `missing`.
    """
    size = localiser.config.size
    rng = np.random.default_rng([_STREAM, scene.seed, seed])
    poses = np.stack([sample_pose(scene, rng) for _ in range(starts)])
    frames = render_varied(scene, poses, rng, intrinsics, size)
    found = localise(localiser, frames)
    predicted, genuine = found.c2w.numpy(), found.confidence.numpy()

    def errors(group: str, chosen: npt.NDArray[np.bool_]) -> dict[str, Any]:
        return asdict(PoseErrors.of(group, predicted[chosen], poses[chosen]))

    ahead = cast(scene, poses[:, :3, 3], poses[:, :3, 2])
    octant = np.round(np.arctan2(poses[:, 0, 2], poses[:, 2, 2]) / (np.pi / 4)).astype(int) % 8
    threshold = float(np.quantile(genuine, FALSE_ALARMS))
    pictures, missing = foreign_pictures(scene, frames, size, seed)
    scores = {kind: localise(localiser, p).confidence.numpy() for kind, p in pictures.items()}
    scores["all"] = np.concatenate(list(scores.values()))
    return {
        "overall": errors("all starts", np.ones(starts, dtype=bool)),
        "by_distance": [
            errors(
                f"{low:g} m or more" if np.isinf(high) else f"{low:g} to {high:g} m",
                (ahead >= low) & (ahead < high),
            )
            for low, high in pairwise(DISTANCES)
        ],
        "by_heading": [errors(name, octant == index) for index, name in enumerate(OCTANTS)],
        "recognition": [
            {
                "kind": kind,
                "count": len(confidence),
                "at_false_alarms": float((confidence < threshold).mean()),
                "below_half": float((confidence < 0.5).mean()),
            }
            for kind, confidence in scores.items()
        ],
        "false_alarms_at_half": float((genuine < 0.5).mean()),
        "missing": missing,
    }


def bounds_kept(report: dict[str, Any]) -> dict[str, bool]:
    """Whether a report satisfies each bound, by name."""
    kept = {name: report["overall"][name] <= bound for name, bound in BOUNDS.items()}
    return kept | {"recognised": report["recognition"][-1]["at_false_alarms"] >= LEAST_RECOGNISED}
