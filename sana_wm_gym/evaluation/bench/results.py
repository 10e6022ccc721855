"""The results layout of SANA-WM-Bench: what a method generated, and what it scored.

    <method>/method_info.json                        what made the videos
    <method>/<split>/<scene>_generated.mp4
    <method>/<split>/eval_poses.json                 camera errors of each scored scene
    <method>/eval/<split>/<name>.json                revisit_consistency, temporal_degradation,
                                                     summary

`<split>` is the public name, simple_60s or hard_60s. Other tools read these files, so a scene
that could not be scored is absent from eval_poses.json; say why in the summary.

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

_VIDEO_SUFFIX = "_generated.mp4"
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
        refiner: Name of the second stage, None without one. The published evaluator leaves out
            frame 0 where there is one, for it is then a copy of the given image.
        extra: Further keys of the file.
    """

    model: str
    variant: str
    fps: float
    resolution: str
    refiner: str | None = None
    extra: Row = field(default_factory=dict)


@dataclass(frozen=True)
class ScenePoseErrors:
    """Camera errors of one scene under the `release` convention.

    Attributes:
        rot_err_deg: Mean angle between orientations, degrees.
        trans_err: Mean distance of centres at the command's scale, metres.
        cam_mc: Mean Frobenius norm of the difference of the 3x4 poses.
        scene_type: Category.
        n_frames: Frames compared.
        skip_first_frame: Whether the first of the sampled frames was left out.
        extra: Further keys of the scene's object.
    """

    rot_err_deg: float
    trans_err: float
    cam_mc: float
    scene_type: str
    n_frames: int
    skip_first_frame: bool = False
    extra: Row = field(default_factory=dict)


@dataclass(frozen=True)
class MethodFolder:
    """Where one method's files are; `split` under either of its names. Methods raise `ValueError`
    for another split, and `video` for a scene id that is no file name.

    Attributes:
        path: The folder `<method>`.
    """

    path: Path

    def split_folder(self, split: str) -> Path:
        """Folder of a split's videos."""
        return self.path / PUBLIC_NAMES[split_of(split)]

    def video(self, split: str, scene: str) -> Path:
        """The video of a scene."""
        if not SAFE_ID.fullmatch(scene):
            raise ValueError(f"scene id is {scene!r}, expected letters, digits, '.', '_' and '-'")
        return self.split_folder(split) / f"{scene}{_VIDEO_SUFFIX}"

    def videos(self, split: str) -> dict[str, Path]:
        """Scene id -> video, of those that are there, by id."""
        found = sorted(self.split_folder(split).glob(f"*{_VIDEO_SUFFIX}"))
        return {path.name.removesuffix(_VIDEO_SUFFIX): path for path in found}

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
    """Read method_info.json.

    Raises:
        BenchDataError: The file is missing or damaged, or a key is missing or makes no sense.
    """
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
        extra=_others(record.row, *_INFO_KEYS, "refiner"),
    )


def write_method_info(folder: MethodFolder, info: MethodInfo) -> None:
    """Write method_info.json.

    Raises:
        ValueError: A number is not finite.
    """
    row = {**info.extra, **{key: getattr(info, key) for key in _INFO_KEYS}}
    refiner = {} if info.refiner is None else {"refiner": info.refiner}
    write_json(folder.info_file(), row | refiner)


def read_pose_errors(path: Path) -> dict[str, ScenePoseErrors]:
    """Read an eval_poses.json, scene id -> errors, in the file's order.

    Rotation errors come out in degrees. A scene without `RotErr_unit` is refused: evaluators
    wrote radians before they wrote the unit, and the number alone does not tell which it is.

    Raises:
        BenchDataError: The file is missing or damaged, or a scene lacks a key, its unit above all.
    """
    document = Record.read(path).row
    return {s: _pose_errors(Record.of(row, path, f"scene {s}")) for s, row in document.items()}


def _pose_errors(record: Record) -> ScenePoseErrors:
    if "RotErr_unit" not in record.row:
        message = (
            f"{record.where} lacks RotErr_unit; files without it hold radians. Score again, or "
            'add "RotErr_unit": "rad" if you know that it is so'
        )
        raise BenchDataError("missing_key", record.path, message)
    record.need(*_POSE_KEYS)
    unit = record.text("RotErr_unit")
    if unit not in _TO_DEGREES:
        raise record.error("bad_value", f"RotErr_unit is {unit!r}, expected 'deg' or 'rad'")
    return ScenePoseErrors(
        rot_err_deg=record.number("RotErr") * _TO_DEGREES[unit],
        trans_err=record.number("TransErr_rel"),
        cam_mc=record.number("CamMC_rel"),
        scene_type=record.text("scene_type"),
        n_frames=record.count("n_frames"),
        skip_first_frame=bool(record.row.get("skip_first_frame", False)),
        extra=_others(record.row, *_POSE_KEYS, "RotErr_unit", "skip_first_frame"),
    )


def write_pose_errors(path: Path, errors: Mapping[str, ScenePoseErrors]) -> None:
    """Write an eval_poses.json, with its unit.

    Raises:
        ValueError: A number is not finite: leave that scene out.
    """
    rows = {
        scene: {
            **error.extra,
            "RotErr": error.rot_err_deg,
            "RotErr_unit": "deg",
            "TransErr_rel": error.trans_err,
            "CamMC_rel": error.cam_mc,
            "scene_type": error.scene_type,
            "n_frames": error.n_frames,
            "skip_first_frame": error.skip_first_frame,
        }
        for scene, error in errors.items()
    }
    write_json(path, rows)


def _others(row: Row, *known: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in known}
