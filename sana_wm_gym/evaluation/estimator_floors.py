"""Camera paths on which estimators are measured, six seconds each, up to 0.4 m/s; and the floors
that follow from the errors on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import rotation_x, rotation_y
from sana_wm_gym.files import write_json
from sana_wm_gym.poses.floors import FLOORS, Floor, read_floors
from sana_wm_gym.world.procedural.scenes import Scene, free_space, sample_pose

Path3 = npt.NDArray[np.float64]

FPS = 16.0
SPEED = 0.4  # metres per second at most
MIN_COVERAGE = 0.5
"""Fraction of frames that are placed before a clip counts, as in the benchmark."""


def _path(
    x: Path3 | float = 0.0,
    y: Path3 | float = 0.0,
    z: Path3 | float = 0.0,
    yaw: Path3 | float = 0.0,
    pitch: Path3 | float = 0.0,
) -> Path3:
    """Camera-to-world [n, 4, 4] from centres in metres, yaw and pitch in radians (right, up)."""
    columns = np.broadcast_arrays(*np.atleast_1d(x, y, z, yaw, pitch))
    poses = np.tile(np.eye(4), (len(columns[0]), 1, 1))
    for pose, turn, tilt in zip(poses, *columns[3:], strict=True):
        pose[:3, :3] = rotation_y(turn) @ rotation_x(tilt)
    poses[:, :3, 3] = np.stack(columns[:3], axis=1)
    return poses


def _s_curve(t: Path3) -> Path3:
    x, z = 0.25 * np.sin(2 * np.pi * t / t[-1]), 0.8 * SPEED * t
    return _path(x, z=z, yaw=np.arctan2(np.gradient(x), np.gradient(z)))


def _orbit(t: Path3) -> Path3:
    angle, radius = SPEED * t / 2.0, 2.0
    return _path(radius * np.sin(angle), z=radius * (1 - np.cos(angle)), yaw=-angle)


def _loop(t: Path3) -> Path3:
    angle, radius = 2 * np.pi * t / t[-1], SPEED * t[-1] / (2 * np.pi)
    yaw = np.deg2rad(15) * np.sin(angle / 2)
    return _path(radius * (1 - np.cos(angle)), z=radius * np.sin(angle), yaw=yaw)


def _spiral(t: Path3) -> Path3:
    u = t / t[-1]
    angle, radius = 2.5 * np.pi * u, 0.45 * u
    yaw, pitch = np.deg2rad(25) * u, np.deg2rad(-12) * np.sin(np.pi * u)
    return _path(radius * np.cos(angle), -0.3 * u, radius * np.sin(angle) + 0.3 * u, yaw, pitch)


def _pan_then_dolly(t: Path3) -> Path3:
    third = t[-1] / 3
    yaw = np.deg2rad(12) * np.minimum(t, third)
    ahead = SPEED * np.maximum(t - third, 0)
    return _path(ahead * np.sin(yaw[-1]), z=ahead * np.cos(yaw[-1]), yaw=yaw)


def _strafe_yaw(t: Path3) -> Path3:
    return _path(0.8 * SPEED * t, yaw=np.deg2rad(20) * np.sin(2 * np.pi * t / t[-1]))


CLIPS: dict[str, Callable[[Path3], Path3]] = {
    "dolly": lambda t: _path(z=np.linspace(0, SPEED * t[-1], len(t))),  # straight ahead
    "s_curve": _s_curve,  # ahead, swaying to both sides and looking along the path
    "strafe_yaw": _strafe_yaw,  # sideways while the view swings 20 degrees to either side
    "orbit": _orbit,  # an arc about a point 2 m ahead, always facing it
    "loop": _loop,  # a circle back to the start while the view turns 15 degrees away and back
    "spiral": _spiral,  # a widening turn that climbs, with pitch
    "pan_then_dolly": _pan_then_dolly,  # a third turning on the spot, then along the new view
    "pan": lambda t: _path(yaw=np.deg2rad(12) * t),  # turning on the spot
    "still": lambda t: _path(yaw=0 * t),
}
"""Path by name: times in seconds [n] -> poses [n, 4, 4]."""
MOVING = tuple(name for name in CLIPS if name not in ("pan", "still"))  # those that travel


def place(scene: Scene, path: Path3, seed: int) -> Path3:
    """A path [n, 4, 4] from a random pose of the scene where all of it is free, in scene axes;
    `ValueError` where none is found.
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


def floors_of(rows: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> list[Floor]:
    """One floor under `release` per estimator, width and softness, over the clips it is for:
    those that turn on the spot for `rotation_only`, those that travel for all others.

    Args:
        rows: One per clip, as `benchmarks.estimator_floor` measures them.
        made: Their provenance.
    """
    groups: dict[tuple[str, str, int, bool], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["estimator"], row["version"], row["size"], row["degraded"])
        if row["clip"] in (("pan",) if key[0] == "rotation_only" else MOVING):
            groups.setdefault(key, []).append(row)
    found = []
    for key, asked in sorted(groups.items()):
        covered = [r["release"] for r in asked if r["coverage"] >= MIN_COVERAGE]
        scored = [score for score in covered if score.get("RotErr") is not None]
        if not scored:
            continue
        rotation = [score["RotErr"] for score in scored]
        travel = [0.0 if key[0] == "rotation_only" else s["TransErr"] for s in scored]
        found.append(
            Floor(
                *key,
                clips=len(asked),
                scored=len(scored),
                rot_err=round(float(np.median(rotation)), 4),
                rot_err_worst=round(max(rotation), 4),
                trans_err=round(float(np.median(travel)), 5),
                trans_err_worst=round(max(travel), 5),
                cpu_seconds=round(float(np.mean([r["cpu_seconds"] for r in asked])), 2),
                frames=asked[0]["frames"],
                **{key: made.get(key, "") for key in ("date", "commit", "device", "command")},
            )
        )
    return found


def store_floors(new: Sequence[Floor], path: Path = FLOORS) -> None:
    """Add floors to the stored ones, replacing those of the same estimator, width and softness."""
    replaced = {(floor.estimator, floor.width, floor.soft) for floor in new}
    kept = [f for f in read_floors(path) if (f.estimator, f.width, f.soft) not in replaced]
    both = sorted([*kept, *new], key=lambda f: (f.estimator, f.soft, f.width))
    write_json(path, {"floors": [asdict(floor) for floor in both]})
    read_floors.cache_clear()
