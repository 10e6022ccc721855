"""How well can poses be read from pixels at all?

Renders camera paths through procedural scenes, where every pose is known, and scores what the
default estimator makes of the pixels. No generated video can be shown to follow its camera better
than these floors; a score under twice its floor is not a ranking.

    python -m benchmarks.estimator_floor --sizes 64 128 --scenes 0 1 --out outputs/floor.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.report import progress, provenance, write_json
from sana_wm_gym.camera.se3 import rotation_x, rotation_y
from sana_wm_gym.metrics import (
    CONVENTIONS,
    DegenerateTrajectoryError,
    null_scores,
    score_poses,
)
from sana_wm_gym.metrics.estimators import LKBundleAdjustment
from sana_wm_gym.world.renderer import default_intrinsics, render
from sana_wm_gym.world.scenes import Scene, free_space, generate_scene, sample_pose

Path3 = npt.NDArray[np.float64]

FPS = 16.0
SPEED = 0.4  # metres per second at most
WIDTH = 150  # columns of the table where no terminal says otherwise
SHOWN = ("release", "scale_only", "paper_sim3")


def _poses(centres: Path3, yaw: Path3, pitch: Path3 | float = 0.0) -> Path3:
    """Camera-to-world [n, 4, 4] from centres [n, 3], yaw and pitch in radians (right, up)."""
    poses = np.tile(np.eye(4), (len(centres), 1, 1))
    pitches = np.broadcast_to(np.asarray(pitch, dtype=np.float64), yaw.shape)
    for pose, y, p in zip(poses, yaw, pitches, strict=True):
        pose[:3, :3] = rotation_y(y) @ rotation_x(p)
    poses[:, :3, 3] = centres
    return poses


def _dolly(t: Path3) -> Path3:
    """Straight ahead, no turn."""
    length = SPEED * t[-1]
    centres = np.stack([0 * t, 0 * t, np.linspace(0, length, len(t))], axis=1)
    return _poses(centres, 0 * t)


def _s_curve(t: Path3) -> Path3:
    """Ahead, swaying to both sides and looking along the path."""
    u = t / t[-1]
    x, z = 0.25 * np.sin(2 * np.pi * u), 0.8 * SPEED * t
    return _poses(np.stack([x, 0 * t, z], axis=1), np.arctan2(np.gradient(x), np.gradient(z)))


def _strafe_yaw(t: Path3) -> Path3:
    """Sideways while the view swings 20 degrees to either side."""
    u = t / t[-1]
    centres = np.stack([0.8 * SPEED * t, 0 * t, 0 * t], axis=1)
    return _poses(centres, np.deg2rad(20) * np.sin(2 * np.pi * u))


def _orbit(t: Path3) -> Path3:
    """An arc about a point 2 m ahead, always facing it."""
    angle, radius = SPEED * t / 2.0, 2.0
    centres = np.stack([radius * np.sin(angle), 0 * t, radius * (1 - np.cos(angle))], axis=1)
    return _poses(centres, -angle)


def _loop(t: Path3) -> Path3:
    """A circle back to the start while the view turns 15 degrees away and back."""
    angle = 2 * np.pi * t / t[-1]
    radius = SPEED * t[-1] / (2 * np.pi)
    centres = np.stack([radius * (1 - np.cos(angle)), 0 * t, radius * np.sin(angle)], axis=1)
    return _poses(centres, np.deg2rad(15) * np.sin(angle / 2))


def _spiral(t: Path3) -> Path3:
    """A widening turn that climbs, with pitch."""
    u = t / t[-1]
    angle, radius = 2.5 * np.pi * u, 0.45 * u
    centres = np.stack([radius * np.cos(angle), -0.3 * u, radius * np.sin(angle) + 0.3 * u], axis=1)
    return _poses(centres, np.deg2rad(25) * u, np.deg2rad(-12) * np.sin(np.pi * u))


def _pan(t: Path3) -> Path3:
    """Turning at 12 degrees per second, no translation."""
    return _poses(np.zeros((len(t), 3)), np.deg2rad(12) * t)


def _still(t: Path3) -> Path3:
    """No motion."""
    return _poses(np.zeros((len(t), 3)), 0 * t)


def _pan_then_dolly(t: Path3) -> Path3:
    """One third turning on the spot, then straight ahead along the new view."""
    third = t[-1] / 3
    yaw = np.deg2rad(12) * np.minimum(t, third)
    ahead = SPEED * np.maximum(t - third, 0)
    end = yaw[-1]
    centres = ahead[:, None] * np.array([np.sin(end), 0.0, np.cos(end)])
    return _poses(centres, yaw)


CLIPS: dict[str, Callable[[Path3], Path3]] = {
    "dolly": _dolly,
    "s_curve": _s_curve,
    "strafe_yaw": _strafe_yaw,
    "orbit": _orbit,
    "loop": _loop,
    "spiral": _spiral,
    "pan_then_dolly": _pan_then_dolly,
    "pan": _pan,
    "still": _still,
}


def place(scene: Scene, path: Path3, seed: int) -> Path3:
    """Move a path that starts at the identity to where the scene has room for all of it.

    Raises:
        ValueError: No such place was found.
    """
    rng = np.random.default_rng(seed)
    for _ in range(500):
        poses = sample_pose(scene, rng) @ path
        if free_space(scene, poses[:, :3, 3], margin=0.3).all():
            return np.asarray(poses)
    raise ValueError(f"scene {scene.seed} has no room for the path")


def degrade(video: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One pixel of blur, half the contrast, noise of 2.5 grey levels: a soft generated video."""
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in video])
    noise = np.random.default_rng(0).normal(0.0, 2.5, video.shape)
    return np.clip(np.rint(0.5 * blurred + 64 + noise), 0, 255).astype(np.uint8)


def measure(
    clip: str, scene_seed: int, size: int, frames: int, degraded: bool = False
) -> dict[str, Any]:
    """Render one clip, estimate its poses and score them under every shown convention."""
    scene = generate_scene(scene_seed)
    truth = place(scene, CLIPS[clip](np.arange(frames) / FPS), seed=scene_seed)
    intrinsics = default_intrinsics(size, size)
    video = render(scene, truth, intrinsics, (size, size), samples=max(2, 256 // size))
    if degraded:
        video = degrade(video)
    started = time.process_time()
    estimate = LKBundleAdjustment().estimate(video, intrinsics, FPS)
    row: dict[str, Any] = {
        "clip": clip,
        "scene": scene_seed,
        "size": size,
        "frames": frames,
        "mode": estimate.info.mode,
        "coverage": float(estimate.valid.mean()),
        "reprojection_error_px": estimate.info.reprojection_error_px,
        "cpu_seconds": time.process_time() - started,
    }
    for name in SHOWN:
        try:
            score = score_poses(
                estimate.poses, truth, CONVENTIONS[name], estimate.valid, min_coverage=0.0
            )
            row[name] = score.to_dict()
        except DegenerateTrajectoryError as error:
            row[name] = {"code": error.code}
        null = null_scores(truth, CONVENTIONS[name])["motionless"]
        row[f"{name}_motionless"] = {"code": null} if isinstance(null, str) else null.to_dict()
    return row


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _cells(row: dict[str, Any]) -> Iterator[str]:
    yield from (row["clip"], str(row["scene"]), str(row["size"]), row["mode"])
    yield _number(row["coverage"], 2)
    for name in ("release", "scale_only"):
        for key, digits in (("RotErr", 2), ("TransErr", 3), ("CamMC", 3)):
            yield _number(row[name].get(key), digits)
    yield _number(row["scale_only_motionless"].get("RotErr"), 1)
    yield _number(row["scale_only_motionless"].get("TransErr"), 2)
    yield _number(row["cpu_seconds"], 1)


def report(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Print one line per clip, then median and worst over the translating clips of each size."""
    table = Table(title="Pose-estimation floor: degrees, metres, CamMC")
    for heading in (
        "clip", "scene", "px", "mode", "reg",
        "release Rot", "Trans", "CamMC", "scale_only Rot", "Trans", "CamMC",
        "motionless Rot", "Trans", "cpu s",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("clip", "mode") else "right")
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    for size in sorted({row["size"] for row in rows}, reverse=True):
        moving = [r for r in rows if r["size"] == size and r["clip"] not in ("pan", "still")]
        for name in ("release", "scale_only"):
            scored = [r[name] for r in moving if r[name].get("RotErr") is not None]
            if not scored:
                continue
            parts = []
            for key, unit in (("RotErr", "deg"), ("TransErr", "m"), ("CamMC", "")):
                values = [s[key] for s in scored]
                parts.append(f"{key} {np.median(values):.3f} / {max(values):.3f} {unit}".rstrip())
            console.print(
                f"{size:4d} px  {name:10s} median / worst over {len(scored)} of {len(moving)} "
                f"translating clips:  " + "   ".join(parts),
                soft_wrap=True,
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[64, 128], help="frame widths in pixels"
    )
    parser.add_argument(
        "--scenes", type=int, nargs="+", default=[0], help="seeds of procedural scenes"
    )
    parser.add_argument(
        "--clips", nargs="+", default=list(CLIPS), choices=list(CLIPS), help="camera paths"
    )
    parser.add_argument(
        "--frames", type=int, default=97, help="frames per clip at 16 fps; 97 is six seconds"
    )
    parser.add_argument(
        "--degraded", action="store_true", help="blur, dim and add noise before estimating"
    )
    parser.add_argument("--out", type=Path, help="also write all numbers to this json file")
    options = parser.parse_args(arguments)
    if min(options.sizes) < 16 or options.frames < 3 or min(options.scenes) < 0:
        parser.error("sizes must be at least 16, frames at least 3, scene seeds at least 0")

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    jobs = [(c, s, p) for p in options.sizes for s in options.scenes for c in options.clips]
    rows = []
    with progress(console) as bar:
        for clip, scene, size in bar.track(jobs, description="estimating"):
            rows.append(measure(clip, scene, size, options.frames, options.degraded))
    report(rows, console)
    if options.out is not None:
        write_json(
            options.out, {**provenance("benchmarks.estimator_floor"), "fps": FPS, "rows": rows}
        )
        console.print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
