"""Persistence: look away until the first view is out of sight, wait, look back. Is it still there?

The camera turns on the spot past its field of view, looks around out there for 1, 2, 4 or 8
chunks, and turns back by the same way. The first view and the return view show the same place, so
they should be equal. Four yardsticks stand beside that number:

  twin         the exact renderer on the same command: nothing is forgotten (upper)
  stayed       the same world after the same time, the camera never moved: blur and drift alone
  stuck        the last view before turning back, repeated: a world that forgot to return (lower)
  mean colour  the first view's mean colour: what can be had without any detail (lower)

A frozen video returns perfectly, because it never left. The away view shows it up: its likeness to
the twin's away view is given beside what the first frame, repeated, scores there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.camera.trajectory import rollout
from sana_wm_gym.evaluation.probes.rollouts import Array, Frames, Spread, Tick, step, twin
from sana_wm_gym.metrics.image import psnr, ssim
from sana_wm_gym.world.world_model import CHUNK_FRAMES, Start, WorldModel, WorldSpec, as_arrays

HOLDS = (1, 2, 4, 8)
"""Chunks spent looking elsewhere."""

_TURN = 1.1  # of the field of view
StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Likeness:
    """How alike two views are, over starts: PSNR in dB and box-window SSIM."""

    psnr_db: Spread
    ssim: Spread

    @staticmethod
    def of(views: Sequence[Frames], references: Sequence[Frames]) -> Likeness:
        """Compare frames uint8 [H, W, 3] pairwise."""
        pairs = list(zip(views, references, strict=True))
        return Likeness(
            Spread.of([psnr(a, b) for a, b in pairs]), Spread.of([ssim(a, b) for a, b in pairs])
        )


@dataclass(frozen=True)
class Return:
    """One length of looking away, averaged over starts.

    Attributes:
        hold_chunks: Chunks between turning away and turning back.
        elapsed_s: Time between the first view and the return view.
        unseen_s: For how long nothing of the first view was in sight.
        world: Return view against first view.
        twin: The same on true frames; None where the truth is unknown.
        stayed: View of a camera that stood still as long, against the first view.
        stuck: The last view before turning back, against the first view.
        mean_colour: The first view's mean colour, against the first view.
        away: The last view before turning back, against the true one; None if unknown.
        away_repeat: The first view against that true view; None if unknown.
    """

    hold_chunks: int
    elapsed_s: float
    unseen_s: float
    world: Likeness
    twin: Likeness | None
    stayed: Likeness
    stuck: Likeness
    mean_colour: Likeness
    away: Likeness | None
    away_repeat: Likeness | None


@dataclass(frozen=True)
class Persistence:
    """The probe's result: one `Return` per length, shortest first."""

    world: str
    starts: int
    turn_deg: float
    returns: tuple[Return, ...]


def field_of_view(spec: WorldSpec) -> float:
    """Horizontal field of view in radians."""
    fx, _, cx, _ = spec.intrinsics
    return math.atan2(cx, fx) + math.atan2(spec.width - cx, fx)


def leg_chunks(spec: WorldSpec) -> int:
    """Chunks that turning away takes at the world's own speed.

    Raises:
        ValueError: The world cannot turn.
    """
    if spec.limits.yaw == 0:
        raise ValueError(f"given world {spec.name!r} with a yaw limit of 0; it cannot look away")
    return math.ceil(_TURN * field_of_view(spec) / (spec.limits.yaw * CHUNK_FRAMES))


def look_away(spec: WorldSpec, hold: int) -> Array:
    """Away, `hold` chunks of swaying out there, and back: poses [24 n + 1, 4, 4]."""
    leg = leg_chunks(spec) * CHUNK_FRAMES
    rate = _TURN * field_of_view(spec) / leg
    # The sway keeps new content coming and never brings the first view back.
    sway = np.repeat([0.5 * rate, -0.5 * rate], CHUNK_FRAMES // 2)
    yaw = np.concatenate([np.full(leg, rate), np.tile(sway, hold), np.full(leg, -rate)])
    still = np.zeros(len(yaw))
    return rollout(Controls(still, still, still, yaw, still, still))


def unseen_frames(spec: WorldSpec, c2w: Array) -> int:
    """Frames of a turn on the spot [n, 4, 4] in which nothing of the first view is in sight."""
    yaw = np.unwrap(np.arctan2(c2w[:, 0, 2], c2w[:, 2, 2]))
    return int((np.abs(yaw) >= field_of_view(spec)).sum())


def chunks_of_work(spec: WorldSpec, starts: int, holds: Sequence[int] = HOLDS) -> int:
    """Chunks that `measure` will make."""
    leg = leg_chunks(spec)
    return starts * (leg + max(holds) + leg * len(holds) + 2 * leg + max(holds))


def measure(
    world: WorldModel[StateT],
    starts: Sequence[Start],
    seed: int,
    tick: Tick,
    holds: Sequence[int] = HOLDS,
) -> Persistence:
    """Look away and return from every start.

    Turning away and waiting are made once; every return branches off from there, which costs
    nothing because a state is a value.

    Args:
        world: Any world.
        starts: Where to look from; those in a procedural scene give the twin.
        seed: Source of noise; start i uses seed + i.
        tick: Told the number of chunks just made.
        holds: Chunks to look elsewhere, each at least 1.

    Raises:
        ValueError: No start, no length, or a world that cannot turn.
    """
    if not starts or not holds or min(holds) < 1:
        raise ValueError(
            f"given {len(starts)} starts and holds {tuple(holds)}; expected at least one start "
            "and lengths of at least 1 chunk"
        )
    spec, leg = world.spec, leg_chunks(world.spec)
    first = [start.image for start in starts]

    def play(states: list[StateT], path: Array, begin: int, end: int) -> list[StateT]:
        for chunk in range(begin, end):
            poses = path[chunk * CHUNK_FRAMES : (chunk + 1) * CHUNK_FRAMES + 1]
            states = step(world, states, starts, [poses] * len(starts))
            tick(len(starts))
        return states

    def last_views(states: Sequence[StateT]) -> list[Frames]:
        return as_arrays(world.decode(states, last=True))

    begun = [world.begin(start, seed + i) for i, start in enumerate(starts)]
    standing, stood, stayed = begun, 0, {}
    still = rollout(Controls.still((2 * leg + max(holds)) * CHUNK_FRAMES))
    for hold in sorted(set(holds)):
        standing, stood = play(standing, still, stood, 2 * leg + hold), 2 * leg + hold
        stayed[hold] = last_views(standing)

    returns = []
    away, done = begun, 0
    for hold in sorted(set(holds)):
        path = look_away(spec, hold)
        away, done = play(away, path, done, leg + hold), leg + hold
        back = last_views(play(away, path, done, done + leg))
        stuck, turned = last_views(away), path[done * CHUNK_FRAMES]
        true_away = [twin(start, turned[None]) for start in starts]
        true_back = [twin(start, path[-1:]) for start in starts]
        known_away = [frames[0] for frames in true_away if frames is not None]
        known_back = [frames[0] for frames in true_back if frames is not None]
        known = len(known_away) == len(starts)
        returns.append(
            Return(
                hold_chunks=hold,
                elapsed_s=(len(path) - 1) / spec.fps,
                unseen_s=unseen_frames(spec, path) / spec.fps,
                world=Likeness.of(back, first),
                twin=Likeness.of(known_back, first) if known else None,
                stayed=Likeness.of(stayed[hold], first),
                stuck=Likeness.of(stuck, first),
                mean_colour=Likeness.of([_mean_colour(view) for view in first], first),
                away=Likeness.of(stuck, known_away) if known else None,
                away_repeat=Likeness.of(first, known_away) if known else None,
            )
        )
    turn = math.degrees(_TURN * field_of_view(spec))
    return Persistence(spec.name, len(starts), turn, tuple(returns))


def _mean_colour(view: Frames) -> Frames:
    mean = np.rint(view.mean(axis=(0, 1))).astype(np.uint8)
    return np.broadcast_to(mean, view.shape).copy()
