"""Does a similar view mean a near camera? Where the threshold of `ThumbnailGoal` comes from.

    python -m benchmarks.thumbnail_goal procedural 128

From each of many starts the world is rolled along a hidden walk to a goal, and along the same walk
with noise added to the motion. The two last views are compared twice: by their thumbnails, as the
goal environment does, and by their cameras, as `ImageGoal` does. Written, for each threshold, is
how often thumbnails say yes where cameras say no (false positives, as a fraction of the camera's
noes, and how far these are from the goal) and the other way round.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from sana_wm_gym.camera import TWIST_NAMES, Controls, MotionLimits
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.tasks import ImageGoal
from sana_wm_gym.envs.tasks.image_goal import gap
from sana_wm_gym.envs.tasks.thumbnail_goal import ThumbnailGoal, thumbnail
from sana_wm_gym.files import write_json, write_text
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table

NOISE = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6)
"""Standard deviations of what is added to a chunk's twist, as fractions of the limits."""

THRESHOLDS = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12)
BATCH = 16

Array = npt.NDArray[np.float64]


def pairs(world: str, starts: int) -> Array:
    """Metres, radians and thumbnail difference of each (start, noise) pair, [n, 3]."""
    task, goal = ImageGoal(), ThumbnailGoal()
    simulation = SanaWMEnv(world).simulation
    limits = simulation.world.spec.limits
    rows = []
    for first in range(0, starts, BATCH):
        rngs = [np.random.default_rng(seed) for seed in range(first, min(first + BATCH, starts))]
        episodes = simulation.begin([None] * len(rngs), rngs)
        walks = [task.walk(rng, simulation.world.spec) for rng in rngs]
        ends = []
        for noise in (0.0, *NOISE):
            tries = list(episodes)
            for chunk in range(max(task.chunks)):
                going = [i for i, walk in enumerate(walks) if chunk < len(walk)]
                motions = [Command(shaken(walks[i][chunk], noise, rngs[i], limits)) for i in going]
                moved = simulation.move([tries[i] for i in going], motions)
                for i, after in zip(going, moved, strict=True):
                    tries[i] = after
            seen = [thumbnail(frame) for frame in simulation.frames(tries, last=True)]
            ends.append([(e.c2w[-1], view) for e, view in zip(tries, seen, strict=True)])
        goals, *attempts = ends
        for attempt in attempts:
            for (pose, view), (there, wanted) in zip(attempt, goals, strict=True):
                rows.append((*gap(pose, there), float(goal.difference(view, wanted))))
    return np.array(rows)


def shaken(
    controls: Controls, noise: float, rng: np.random.Generator, limits: MotionLimits
) -> Controls:
    """A chunk's motion with a constant twist of random size added to it."""
    extra = {n: noise * rng.standard_normal() * getattr(limits, n) for n in TWIST_NAMES}
    return Controls(
        **{f.name: getattr(controls, f.name) + extra.get(f.name, 0.0) for f in fields(Controls)}
    )


def table(rows: Array) -> Table:
    """Error rates of each threshold against the camera's answer."""
    task = ImageGoal()
    there = np.array([task.reached(metres, angle) for metres, angle, _ in rows])
    distance = rows[:, 0] + task.distance.metres_per_radian * rows[:, 1]
    records = []
    for threshold in THRESHOLDS:
        similar = rows[:, 2] <= threshold
        wrong, missed = similar & ~there, ~similar & there
        records.append(
            {
                "threshold": f"{threshold:.2f}",
                "false positives": f"{wrong.sum() / (~there).sum():.1%}",
                "false negatives": f"{missed.sum() / there.sum():.1%}",
                "precision": f"{(similar & there).sum() / similar.sum():.1%}",
                "d of false positives, m": float(np.median(distance[wrong])),
            }
        )
    return Table.of(f"{len(rows)} pairs, {there.mean():.0%} at the goal by the camera", records)


def main() -> None:
    """Measure one world."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", help="its name")
    parser.add_argument("starts", type=int)
    parser.add_argument("--out", type=Path, default=Path("outputs/thumbnail_goal"), help="folder")
    given = parser.parse_args()
    rows = pairs(given.world, given.starts)
    found = table(rows)
    found.print(Console())
    source = provenance("benchmarks.thumbnail_goal")
    write_json(given.out / "thumbnail_goal.json", {**source, "pairs": rows.tolist()})
    write_text(given.out / "thumbnail_goal.csv", found.csv())


if __name__ == "__main__":
    main()
