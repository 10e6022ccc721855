"""Step into a world: 16 chunks of a scripted tour, recorded and scored.

A seeded script chooses slow actions that keep clear of the walls. `SanaWMEnv` turns each into 24
camera poses and the world returns 24 frames. Poses estimated from those frames are then
compared with the commanded ones, next to the same estimator's score on the true frames (the
floor) and the score of a motionless camera.

    sana-wm demo                                # the learned world of the package
    sana-wm demo --world procedural             # the exact renderer in its place
    sana-wm demo --seed 3 --chunks 40 --out outputs/minute

Writes OUT/rollout.mp4 (every frame, next to the ground truth), OUT/trajectory.png (the paths
from above) and OUT/metrics.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from sana_wm_gym import ENV_ID, __version__
from sana_wm_gym.evaluation.pictures import enlarge, write_paths
from sana_wm_gym.evaluation.score import RolloutScore, score_rollout
from sana_wm_gym.files import write_json
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.metrics import psnr
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import progress
from sana_wm_gym.video import write_video
from sana_wm_gym.world.catalogue import WORLDS, load_world
from sana_wm_gym.world.procedural.procedural_world import scene_of
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import Scene
from sana_wm_gym.world.world_model import WorldModel

from .tour import plan_tour

Array = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

SCORED_EVERY = 2
"""Poses are estimated from every second frame: 8 per second are plenty and take half the time."""
_ENLARGED, _HEADER, _GAP = 4, 24, 8


@dataclass(frozen=True)
class Tour:
    """A rollout of n chunks of m frames."""

    scene: Scene  # of the ground truth
    intrinsics: tuple[float, float, float, float]
    actions: Array  # [n, 5]
    c2w: Array  # commanded poses relative to the first frame, [m n + 1, 4, 4]
    frames: Frames  # generated, [m n + 1, H, W, 3]
    truth: Frames  # rendered along the same path


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
        "max_episode_steps": chunks,
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
    return Tour(scene, start.intrinsics, actions, c2w, np.concatenate(seen), truth)


def score(tour: Tour, fps: float) -> tuple[RolloutScore, Array | None]:
    """Score a tour with its floor; also camera centres as estimated, relative to the first frame in
    metres, [m, 3], or None."""
    commanded = tour.c2w[::SCORED_EVERY]
    result = score_rollout(
        tour.frames[::SCORED_EVERY],
        commanded,
        tour.intrinsics,
        fps / SCORED_EVERY,
        LKBundleAdjustment(),
        truth_frames=tour.truth[::SCORED_EVERY],
    )
    return result, result.centres(commanded)


def run(world: WorldModel[Any], chunks: int, seed: int, out: Path, console: Console) -> None:
    """Walk, score, and write everything to `out`."""
    spec = world.spec
    tour = walk(world, chunks, seed, console)
    with console.status("estimating poses from pixels"):
        result, centres = score(tour, spec.fps)
    write_video(out / "rollout.mp4", side_by_side(tour.frames, tour.truth), spec.fps)
    paths = {"commanded": tour.c2w[:, :3, 3]}
    if centres is not None:
        paths["estimated from the frames"] = centres
    write_paths(out / "trajectory.png", paths)
    repeated = np.broadcast_to(tour.truth[:1], tour.truth.shape)
    psnrs = {
        "psnr_db": psnr_per_chunk(tour.frames, tour.truth, chunks),
        "psnr_db_of_repeating_the_first_frame": psnr_per_chunk(repeated, tour.truth, chunks),
    }
    metrics = {
        **provenance("sana-wm demo"),
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


def side_by_side(frames: Frames, truth: Frames) -> Iterator[Frames]:
    """Video frames with the generated one on the left and the truth on the right, each pixel drawn
    as 4 x 4; both are uint8 [n, H, W, 3]."""
    height, width = (_ENLARGED * side for side in frames.shape[1:3])
    sheet = Image.new("RGB", (2 * width + _GAP, height + _HEADER), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    corners = (0, width + _GAP)
    for left, label in zip(corners, ("generated", "truth"), strict=True):
        draw.text((left + width / 2, _HEADER / 2), label, "#333333", font, anchor="mm")
    for pair in zip(frames, truth, strict=True):
        for left, frame in zip(corners, pair, strict=True):
            sheet.paste(enlarge(frame, _ENLARGED), (left, _HEADER))
        yield np.array(sheet)


def psnr_per_chunk(frames: Frames, truth: Frames, chunks: int) -> list[float]:
    """PSNR in dB of each chunk, the given first frame left out."""
    parts = (np.split(video[1:], chunks) for video in (frames, truth))
    return [psnr(made, true) for made, true in zip(*parts, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = FlagParser("sana-wm demo", __doc__)
    parser.add_argument("--world", choices=sorted(WORLDS), default="tiny", help="which world")
    parser.add_argument("--chunks", type=int, default=16, help="environment steps (16)")
    # A tour on which the estimator does well on true frames, so that the score is the world's.
    parser.add_argument("--seed", type=int, default=2, help="source of start, tour and noise (2)")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="folder")
    options = parser.parse_args(arguments)
    if options.chunks < 1 or options.seed < 0:
        parser.error("at least 1 chunk, and a seed that is not negative")
    torch.set_num_threads(1)
    run(load_world(options.world), options.chunks, options.seed, options.out, Console())
    return 0
