"""Which metric detects which fault? `python -m benchmarks.what_numbers_see`.

Renders one commanded path in the exact world as commanded, and in the ways a video model goes
wrong: it turns too little, turns the other way, moves too slowly, freezes, starts late, or loses
the order of its frames. Every video is scored with known poses and with poses read from its
pixels. A second table puts `paper_sim3` next to `release` on straight, curved and turning paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from benchmarks.report import parser_of
from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.evaluation.estimator_floors import CLIPS, FPS, place
from sana_wm_gym.files import write_json, write_text
from sana_wm_gym.metrics import PAPER_SIM3, RELEASE, SCALE_ONLY, Convention, psnr, score_or_code
from sana_wm_gym.metrics.drift import frame_change
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, cell
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import Scene, generate_scene

Array = npt.NDArray[np.float64]
Errors = dict[str, Any]

COMMAND, FRAMES = "strafe_yaw", 97
STRICTNESS = (RELEASE, SCALE_ONLY)
SIDE_BY_SIDE = ("dolly", "s_curve", "strafe_yaw", "orbit", "pan")
DIGITS = {"rot_err": 2, "trans_err": 3, "cam_mc": 3, "scale": 2}
NOISE_DEG, NOISE_M = 0.07, 0.005
"""Errors of a good estimator, put on known poses in the second table."""


def turned(poses: Array, factor: float) -> Array:
    """The commanded places, every orientation's rotation from the first times `factor`."""
    angles = Rotation.from_matrix(poses[0, :3, :3].T @ poses[:, :3, :3]).as_rotvec()
    wrong = poses.copy()
    wrong[:, :3, :3] = poses[0, :3, :3] @ Rotation.from_rotvec(factor * angles).as_matrix()
    return wrong


def at(poses: Array, frames: npt.ArrayLike) -> Array:
    """The commanded pose of another frame at every instant."""
    return np.asarray(poses[np.rint(frames).astype(np.int64)])


WRONG: Mapping[str, Callable[[Array], Array]] = {
    "as commanded": lambda poses: poses,
    "turns 10 % too little": lambda poses: turned(poses, 0.9),
    "turns the other way": lambda poses: turned(poses, -1.0),
    "half speed": lambda poses: at(poses, np.arange(len(poses)) / 2),
    "frozen": lambda poses: at(poses, np.zeros(len(poses))),
    "one chunk late": lambda poses: at(poses, np.maximum(np.arange(len(poses)) - CHUNK_FRAMES, 0)),
    "frames shuffled": lambda poses: at(
        poses, [0, *np.random.default_rng(0).permutation(np.arange(1, len(poses)))]
    ),
}


def errors(
    estimate: Array, command: Array, convention: Convention, valid: npt.ArrayLike | None = None
) -> Errors:
    """RotErr, TransErr, CamMC and scale under a convention, or the reason code of a refusal."""
    score = score_or_code(estimate, command, convention, valid)
    if isinstance(score, str):
        return {"code": score}
    return {**{key: getattr(score, key) for key in DIGITS}, "undefined": dict(score.undefined)}


def score_videos(
    scene: Scene, command: Array, size: int, estimator: PoseEstimator
) -> list[dict[str, Any]]:
    """Render and score every kind of video of a command, poses [n, 4, 4] in scene axes.

    Per video: errors of its true poses (`known`) and of those read from its pixels (`read`) by
    convention; `psnr_db` to the video as commanded, None for that video itself; and
    `frame_change`, from frame to frame, over that of the video as commanded.
    """
    target, intrinsics = relative_to_first(command), np.array(default_intrinsics(size, size))
    truth = render(scene, command, intrinsics, (size, size))
    rows = []
    for name, make in WRONG.items():
        moved = make(command)
        video = render(scene, moved, intrinsics, (size, size))
        path, read = relative_to_first(moved), estimator.estimate(video, intrinsics, FPS)
        frames = [psnr(a, b) for a, b in zip(video, truth, strict=True)]
        rows.append(
            {
                "name": name,
                "known": {c.name: errors(path, target, c) for c in STRICTNESS},
                "read": {c.name: errors(read.poses, target, c, read.valid) for c in STRICTNESS},
                "psnr_db": None if np.array_equal(video, truth) else float(np.mean(frames)),
                "frame_change": float(frame_change(video) / frame_change(truth)),
            }
        )
    return rows


def side_by_side(frames: int) -> dict[str, dict[str, Errors]]:
    """`paper_sim3` and `release` on paths whose poses carry a good estimator's errors."""
    rng, seconds = np.random.default_rng(0), np.arange(frames) / FPS
    table = {}
    for name in SIDE_BY_SIDE:
        command = relative_to_first(CLIPS[name](seconds))
        noisy = command.copy()
        turns = Rotation.from_rotvec(np.deg2rad(NOISE_DEG) * rng.normal(size=(frames, 3)))
        noisy[:, :3, :3] = command[:, :3, :3] @ turns.as_matrix()
        noisy[:, :3, 3] += NOISE_M * rng.normal(size=(frames, 3))
        table[name] = {c.name: errors(noisy, command, c) for c in (PAPER_SIM3, RELEASE)}
    return table


def shown(errors: Errors, key: str) -> str:
    """A number, the reason why there is none, or a dash."""
    reason = errors.get("code") or errors["undefined"].get(key)
    return f"`{reason}`" if reason else cell(errors[key], DIGITS[key])


def tables(rows: Sequence[dict[str, Any]], paths: Mapping[str, dict[str, Errors]]) -> list[Table]:
    """Both tables."""
    units = {"rot_err": "RotErr deg", "trans_err": "TransErr m", "cam_mc": "CamMC"}
    wrong = []
    for row in rows:
        record = {"the video": row["name"]}
        for convention, prefix in ((RELEASE, ""), (SCALE_ONLY, "strict ")):
            known, read = (row[poses][convention.name] for poses in ("known", "read"))
            for key in ("rot_err", "trans_err"):
                both = f"{shown(known, key)} / {shown(read, key)}"
                record[f"{prefix}{units[key]}, known / read"] = both
        record["scale, known"] = shown(row["known"][SCALE_ONLY.name], "scale")
        record["PSNR dB"] = "equal" if row["psnr_db"] is None else cell(row["psnr_db"], 1)
        wrong.append(record | {"frame change": row["frame_change"]})
    compared = [
        {"path": name}
        | {
            f"{unit}, `{c.name}`": shown(scores[c.name], key)
            for key, unit in units.items()
            for c in (PAPER_SIM3, RELEASE)
        }
        for name, scores in paths.items()
    ]
    return [
        Table.of("What goes wrong", wrong),
        Table.of("paper_sim3 next to release", compared),
    ]


def main() -> None:
    """Command line."""
    parser = parser_of("benchmarks.what_numbers_see", __doc__)
    add, folder = parser.add_argument, Path("outputs/what_numbers_see")
    add("--size", type=int, default=128, help="pixels across (128)")
    add("--out", type=Path, default=folder, help="folder for the tables")
    given = parser.parse_args()
    if given.size < 32:
        parser.error(f"--size is {given.size}, expected at least 32")
    scene = generate_scene(0)
    command = place(scene, CLIPS[COMMAND](np.arange(FRAMES) / FPS), seed=0)
    rows = score_videos(scene, command, given.size, LKBundleAdjustment())
    paths = side_by_side(FRAMES)
    source = provenance("benchmarks.what_numbers_see")
    write_json(given.out / "what_numbers_see.json", {**source, "videos": rows, "paths": paths})
    text = "\n".join(table.markdown() for table in tables(rows, paths))
    write_text(given.out / "what_numbers_see.md", text)
    print(text)
    print(f"wrote what_numbers_see.json and .md to {given.out}")


if __name__ == "__main__":
    main()
