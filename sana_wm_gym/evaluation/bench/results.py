"""The results layout of SANA-WM-Bench: what a method generated, and what it scored. Other tools
read eval_poses.json, so a scene that could not be scored is absent; the summary has the reason.

Source: the benchmark guide and the evaluator published with SANA-WM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.bench.files import BenchDataError, Record, Row
from sana_wm_gym.evaluation.bench.layout import PUBLIC_NAMES, SAFE_ID, split_of
from sana_wm_gym.files import write_json

_INFO_KEYS = ("model", "variant", "fps", "resolution")
_POSE_KEYS = ("RotErr", "TransErr_rel", "CamMC_rel", "scene_type", "n_frames")
_TO_DEGREES = {"deg": 1.0, "rad": 180.0 / math.pi}


@dataclass(frozen=True)
class MethodInfo:
    """What made the videos of a method.

    Attributes:
        model: Name of the world.
        variant: Which weights or settings of it.
        fps: Frames per second of its videos.
        resolution: As in "1280x720", width first.
        refiner: Name of the second stage, None without one.
        extra: Further keys of the file.
    """

    model: str
    variant: str
    fps: float
    resolution: str
    refiner: str | None = None
    extra: Row = field(default_factory=dict)


@dataclass(frozen=True)
class MethodFolder:
    """Where the files of the method in folder `path` are. `ValueError` for an unknown split or a
    scene id that is no file name."""

    path: Path

    def split_folder(self, split: str) -> Path:
        """Folder of a split's videos."""
        return self.path / PUBLIC_NAMES[split_of(split)]

    def video(self, split: str, scene: str) -> Path:
        """The video of a scene."""
        if not SAFE_ID.fullmatch(scene):
            raise ValueError(f"scene id is {scene!r}, expected letters, digits, '.', '_' and '-'")
        return self.split_folder(split) / f"{scene}_generated.mp4"

    def info_file(self) -> Path:
        """method_info.json."""
        return self.path / "method_info.json"

    def poses_file(self, split: str) -> Path:
        """eval_poses.json of a split."""
        return self.split_folder(split) / "eval_poses.json"

    def eval_file(self, split: str, name: str) -> Path:
        """One of the other evaluations of a split."""
        return self.path / "eval" / PUBLIC_NAMES[split_of(split)] / f"{name}.json"


def read_method_info(folder: MethodFolder) -> MethodInfo:
    """Read method_info.json; `BenchDataError` where it, a key or a value is missing or wrong."""
    record = Record.read(folder.info_file())
    record.need(*_INFO_KEYS)
    resolution, refiner = record.row["resolution"], record.row.get("refiner")
    if isinstance(resolution, list):
        resolution = "x".join(map(str, resolution))
    return MethodInfo(
        model=record.text("model"),
        variant=record.text("variant"),
        fps=record.number("fps"),
        resolution=str(resolution),
        refiner=str(refiner) if refiner else None,
        extra={k: v for k, v in record.row.items() if k not in (*_INFO_KEYS, "refiner")},
    )


def write_method_info(folder: MethodFolder, info: MethodInfo) -> None:
    """Write method_info.json; `ValueError` where a number is not finite."""
    row = {**info.extra, **{key: getattr(info, key) for key in _INFO_KEYS}}
    refiner = {} if info.refiner is None else {"refiner": info.refiner}
    write_json(folder.info_file(), row | refiner)


def read_pose_errors(path: Path) -> dict[str, dict[str, Any]]:
    """Read an eval_poses.json, scene id -> object, in the file's order.

    Each has, under the `release` convention, `RotErr` (mean angle between orientations, in
    degrees), `TransErr_rel` (mean distance of centres at the command's scale, metres), `CamMC_rel`
    (mean Frobenius norm of the difference of the 3x4 poses), the frames compared `n_frames` and
    `scene_type`. A scene without `RotErr_unit` is refused: older files hold radians.

    Raises:
        BenchDataError: The file is missing or damaged, or a scene lacks a key, its unit above all.
    """
    rows = {}
    for scene, value in Record.read(path).row.items():
        record = Record.of(value, path, f"scene {scene}")
        if "RotErr_unit" not in value:
            hint = 'hold radians. Score again, or add "RotErr_unit": "rad" if you know it is so'
            lacks = f"{record.where} lacks RotErr_unit; files without it {hint}"
            raise BenchDataError("missing_key", path, lacks)
        record.need(*_POSE_KEYS)
        unit = record.text("RotErr_unit")
        if unit not in _TO_DEGREES:
            raise record.error("bad_value", f"RotErr_unit is {unit!r}, expected 'deg' or 'rad'")
        degrees = record.number("RotErr") * _TO_DEGREES[unit]
        for key in ("TransErr_rel", "CamMC_rel"):
            record.number(key)
        record.text("scene_type")
        record.count("n_frames")
        rows[scene] = {**value, "RotErr": degrees, "RotErr_unit": "deg"}
    return rows


def write_pose_errors(path: Path, errors: Mapping[str, Row]) -> None:
    """Write an eval_poses.json of objects as `read_pose_errors` returns them; `ValueError` where a
    number is not finite."""
    first = {"RotErr_unit": "deg", "skip_first_frame": False}
    write_json(path, {scene: first | dict(row) for scene, row in errors.items()})
