"""Step into a world: 16 chunks of a scripted tour, recorded and scored.

A seeded script chooses calm actions that keep clear of the walls. `SanaWMEnv` turns each into 24
camera poses and the world answers with 24 frames. Poses estimated from those frames are then
compared with the commanded ones, next to the same estimator's score on the true frames (the
floor) and the score of a motionless camera.

    python -m agents.demo                                # the learned world of the package
    python -m agents.demo --world procedural             # the exact renderer in its place
    python -m agents.demo --seed 3 --chunks 40 --out outputs/minute

Writes OUT/rollout.mp4 (every frame, next to the ground truth), OUT/trajectory.png (the path
from above) and OUT/metrics.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from agents.pictures import draw_path, side_by_side
from agents.tour import plan_tour
from sana_wm_gym import ENV_ID, __version__
from sana_wm_gym.evaluation.score import RolloutScore, score_rollout
from sana_wm_gym.files import write_json
from sana_wm_gym.metrics import PoseScore, psnr
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import progress
from sana_wm_gym.video import write_video
from sana_wm_gym.world.catalogue import WORLDS, load_world
from sana_wm_gym.world.procedural.procedural_world import scene_of
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import Scene
from sana_wm_gym.world.world_model import WorldModel

Array = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

SCORED_EVERY = 2
"""Poses are estimated from every second frame: 8 per second are plenty and take half the time."""


@dataclass(frozen=True)
class Tour:
    """A rollout of n chunks.

    Attributes:
        scene: Of the ground truth.
        scene_c2w: Pose of the first frame there, float64 [4, 4].
        intrinsics: (fx, fy, cx, cy) in pixels.
        actions: float64 [n, 5].
        c2w: Commanded poses relative to the first frame, float64 [m n + 1, 4, 4].
        frames: Generated, uint8 [m n + 1, H, W, 3] for chunks of m frames.
        truth: Rendered along the same path, the same shape.
    """

    scene: Scene
    scene_c2w: Array
    intrinsics: tuple[float, float, float, float]
    actions: Array
    c2w: Array
    frames: Frames
    truth: Frames


def walk(world: WorldModel[Any], chunks: int, seed: int, console: Console) -> Tour:
    """Plan a tour and step an environment through it.

    Raises:
        ValueError: The world has no scenes of its own, so there is no truth to compare with.
    """
    rng = np.random.default_rng(seed)
    start = world.sample_start(rng)
    scene, first = scene_of(start)
    actions = plan_tour(scene, first, world.spec, chunks, rng)
    arguments: dict[str, Any] = {
        "observation": ("frames",),
        "render_mode": "rgb_array_list",
        "horizon": chunks,
    }
    env = gym.make(ENV_ID, world=world, **arguments)
    frames, info = env.reset(seed=seed, options={"start": start})
    seen, poses = [frames[:1]], [info["c2w"][:1]]
    with progress(console) as bars:
        for action in bars.track(actions, description=f"stepping {world.spec.name}"):
            frames, _, _, _, info = env.step(action.astype(np.float32))
            seen.append(frames)
            poses.append(info["c2w"])
    env.close()
    c2w = np.concatenate(poses)
    size = (world.spec.height, world.spec.width)
    truth = render(scene, first @ c2w, start.intrinsics, size)
    return Tour(scene, first, start.intrinsics, actions, c2w, np.concatenate(seen), truth)


def score(tour: Tour, fps: float) -> tuple[RolloutScore, Array | None]:
    """Score a tour with its floor.

    Returns:
        The score, and estimated camera centres relative to the first frame in metres, [m, 3];
        None where there is no estimate.
    """
    commanded = tour.c2w[::SCORED_EVERY]
    result = score_rollout(
        tour.frames[::SCORED_EVERY],
        commanded,
        tour.intrinsics,
        fps / SCORED_EVERY,
        LKBundleAdjustment(),
        truth_frames=tour.truth[::SCORED_EVERY],
    )
    strict, estimate = result.scale_only, result.estimate
    if not isinstance(strict, PoseScore) or strict.scale is None:
        return result, None
    # Estimates are relative to the first frame that has one.
    first = commanded[np.argmax(estimate.valid)]
    centres = strict.scale * estimate.poses[estimate.valid, :3, 3]
    return result, centres @ first[:3, :3].T + first[:3, 3]


def run(world: WorldModel[Any], chunks: int, seed: int, out: Path, console: Console) -> None:
    """Walk, score, and write everything to `out`."""
    spec = world.spec
    tour = walk(world, chunks, seed, console)
    with console.status("estimating poses from pixels"):
        result, centres = score(tour, spec.fps)
    write_video(out / "rollout.mp4", side_by_side(tour.frames, tour.truth), spec.fps)
    draw_path(out / "trajectory.png", tour.scene, tour.scene_c2w, tour.c2w, centres)
    psnrs = {
        "psnr_db": psnr_per_chunk(tour.frames, tour.truth, chunks),
        "psnr_db_of_repeating_the_first_frame": psnr_per_chunk(
            np.broadcast_to(tour.truth[:1], tour.truth.shape), tour.truth, chunks
        ),
    }
    metrics = {
        **provenance("agents.demo"),
        "version": __version__,
        "world": spec.name,
        "seed": seed,
        "chunks": chunks,
        "frames": len(tour.frames),
        "fps": spec.fps,
        "scene": tour.scene.seed,
        "actions": tour.actions.tolist(),
        "scored_every": SCORED_EVERY,
        "camera": result.to_dict(),
        **psnrs,
    }
    write_json(out / "metrics.json", metrics)
    console.print(str(result), highlight=False, markup=False, soft_wrap=True)
    for name, values in psnrs.items():
        console.print(
            f"{name}: {values[0]:.1f} in chunk 1, {values[-1]:.1f} in chunk {chunks}",
            highlight=False,
        )
    console.print(f"wrote {out}/rollout.mp4, trajectory.png and metrics.json", soft_wrap=True)


def psnr_per_chunk(frames: Frames, truth: Frames, chunks: int) -> list[float]:
    """PSNR in dB of each chunk, the given first frame left out."""
    parts = (np.split(video[1:], chunks) for video in (frames, truth))
    return [psnr(made, true) for made, true in zip(*parts, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--world", choices=sorted(WORLDS), default="tiny", help="which world")
    parser.add_argument("--chunks", type=int, default=16, help="environment steps (16)")
    # A tour on which the estimator does well on true frames, so that the score is the world's.
    parser.add_argument("--seed", type=int, default=2, help="source of start, tour and noise (2)")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="folder")
    options = parser.parse_args(arguments)
    if options.chunks < 1 or options.seed < 0:
        parser.error("at least 1 chunk, and a seed that is not negative")
    torch.set_num_threads(1)
    try:
        run(load_world(options.world), options.chunks, options.seed, options.out, Console())
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
