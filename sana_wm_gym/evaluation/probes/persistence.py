"""Persistence: look away until the first view is out of sight, wait, look back. Is it still there?
See docs/trust_probes.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.camera.trajectory import rollout
from sana_wm_gym.evaluation.held_out import Array, Frames, Tick, true_frames
from sana_wm_gym.evaluation.probes.results import ProbeResult, Row, Spread
from sana_wm_gym.metrics import psnr, ssim
from sana_wm_gym.world.rollout import camera_path, rollout_from
from sana_wm_gym.world.world_model import Start, WorldModel, WorldSpec, as_arrays

HOLDS = (1, 2, 4, 8)
"""Chunks spent looking elsewhere."""

_TURN = 1.1  # of the field of view
StateT = TypeVar("StateT")


@dataclass(frozen=True)
class ViewSimilarity:
    """How similar two views are, over starts: PSNR in dB and box-window SSIM."""

    psnr_db: Spread
    ssim: Spread

    @staticmethod
    def of(views: Sequence[Frames], references: Sequence[Frames]) -> ViewSimilarity:
        """Compare frames uint8 [H, W, 3] pairwise."""
        pairs = list(zip(views, references, strict=True))
        return ViewSimilarity(
            Spread.of([psnr(a, b) for a, b in pairs]), Spread.of([ssim(a, b) for a, b in pairs])
        )

    def __str__(self) -> str:
        return f"{self.psnr_db} / {self.ssim}"


def field_of_view(spec: WorldSpec) -> float:
    """Horizontal field of view in radians."""
    fx, _, cx, _ = spec.intrinsics
    return math.atan2(cx, fx) + math.atan2(spec.width - cx, fx)


def turn_chunks(spec: WorldSpec) -> int:
    """Chunks that turning away takes at the world's speed; `ValueError` where it cannot turn."""
    spec.require_camera("the persistence probe")
    if spec.limits.yaw == 0:
        raise ValueError(f"given world {spec.name!r} with a yaw limit of 0; it cannot look away")
    return math.ceil(_TURN * field_of_view(spec) / (spec.limits.yaw * spec.frames_per_chunk))


def look_away(spec: WorldSpec, hold: int) -> Array:
    """Away, `hold` chunks of swaying out there, and back: poses [n + 1, 4, 4]."""
    turn, chunk = turn_chunks(spec) * spec.frames_per_chunk, spec.frames_per_chunk
    rate = _TURN * field_of_view(spec) / turn
    # The sway keeps new content coming and never brings the first view back.
    half = chunk // 2
    sway = rate * np.concatenate([np.full(half, 0.5), np.full(half, -0.5), np.zeros(chunk % 2)])
    yaw = np.concatenate([np.full(turn, rate), np.tile(sway, hold), np.full(turn, -rate)])
    still = np.zeros(len(yaw))
    return rollout(Controls(still, still, still, yaw, still, still))


def unseen_frames(spec: WorldSpec, c2w: Array) -> int:
    """Frames of a turn on the spot [n, 4, 4] in which nothing of the first view is in sight."""
    yaw = np.unwrap(np.arctan2(c2w[:, 0, 2], c2w[:, 2, 2]))
    return int((np.abs(yaw) >= field_of_view(spec)).sum())


def measure(
    world: WorldModel[StateT],
    starts: Sequence[Start],
    seed: int,
    tick: Tick,
    holds: Sequence[int] = HOLDS,
) -> ProbeResult:
    """Look away and return from every start. Turning away and waiting are made once; every return
    branches off from there.

    Each row is one length of looking away: its chunks, the time between the two views, for how long
    nothing of the first view was in sight, and then against the first view the return view of the
    `world`, of its `twin`, the exact renderer, the view of a camera that `stayed`, the last view
    before turning back (`stuck`) and the first view's `mean colour`; `away` is that last view
    against the true one, and `away, repeated` the first view against it, which exposes frozen
    videos. What needs the truth is None where it is unknown.

    Args:
        world: Any world that follows a camera.
        starts: Where to look from; those in a procedural scene give the twin.
        seed: Source of noise; start i uses seed + i.
        tick: Called with the number of chunks just made.
        holds: Chunks to look elsewhere, each at least 1.

    Raises:
        ValueError: No start, no length, or a world that cannot turn.
    """
    if not starts or not holds or min(holds) < 1:
        given = f"given {len(starts)} starts and holds {tuple(holds)}"
        raise ValueError(f"{given}; expected at least one start and lengths of at least 1 chunk")
    spec, turn = world.spec, turn_chunks(world.spec)
    chunk = spec.frames_per_chunk
    first = [start.image for start in starts]
    mean_colours = [np.full_like(view, np.rint(view.mean(axis=(0, 1)))) for view in first]

    def play(states: list[StateT], path: Array, begin: int, end: int) -> list[StateT]:
        part = path[begin * chunk : end * chunk + 1]
        paths = [camera_path(start, part) for start in starts]
        for moved in rollout_from(world, states, paths):
            states = moved
            tick(len(starts))
        return states

    def last_views(states: Sequence[StateT]) -> list[Frames]:
        return as_arrays(world.decode(states, last=True))

    rows = []
    standing = away = [world.begin(start, seed + i) for i, start in enumerate(starts)]
    stood = done = 0
    still = rollout(Controls.still((2 * turn + max(holds)) * chunk))
    for hold in sorted(set(holds)):
        standing, stood = play(standing, still, stood, 2 * turn + hold), 2 * turn + hold
        path = look_away(spec, hold)
        away, done = play(away, path, done, turn + hold), turn + hold
        back = last_views(play(away, path, done, done + turn))
        stuck, turned = last_views(away), path[done * chunk]
        rendered = [true_frames(start, np.stack([turned, path[-1]])) for start in starts]
        # The true away view and the true return view; fewer where some start is in no scene.
        true_away, true_back = (
            [views[i] for views in rendered if views is not None] for i in (0, 1)
        )
        pairs = {
            "world": (back, first),
            "twin": (true_back, first),
            "stayed": (last_views(standing), first),
            "stuck": (stuck, first),
            "mean colour": (mean_colours, first),
            "away": (stuck, true_away),
            "away, repeated": (first, true_away),
        }
        times = {"elapsed, s": len(path) - 1, "unseen, s": unseen_frames(spec, path)}
        row: Row = {"away for, chunks": hold, **{k: n / spec.fps for k, n in times.items()}}
        for name, (views, references) in pairs.items():
            known = len(views) == len(references)
            row[name] = ViewSimilarity.of(views, references) if known else None
        rows.append(row)
    return ProbeResult(
        f"Persistence of {spec.name}: {len(starts)} starts, "
        f"turn of {math.degrees(_TURN * field_of_view(spec)):.0f} degrees",
        "PSNR dB / SSIM against the first view, mean ± standard deviation over starts; the last "
        "two columns against the true away view",
        rows,
    )
