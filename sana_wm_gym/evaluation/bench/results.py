"""The results layout of SANA-WM-Bench: what a method generated, and what it scored.

    <method>/method_info.json                        what made the videos
    <method>/<split>/<scene>_generated.mp4
    <method>/<split>/eval_poses.json                 camera errors of each scored scene
    <method>/eval/<split>/<name>.json                vbench_scores, revisit_consistency,
                                                     temporal_degradation, summary

`<split>` is the public name, simple_60s or hard_60s. Other tools read these files, so a scene
that could not be scored is absent from eval_poses.json; say why in the summary.

Source: the benchmark guide and the evaluator published with SANA-WM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sana_wm_gym.evaluation.bench.files import (
    BenchDataError,
    Row,
    count,
    need,
    number,
    parse_object,
    read_text,
    text,
)
from sana_wm_gym.evaluation.bench.layout import PUBLIC_NAMES, SAFE_ID, split_of
from sana_wm_gym.files import write_json

EvalName = Literal["vbench_scores", "revisit_consistency", "temporal_degradation", "summary"]

_VIDEO_SUFFIX = "_generated.mp4"
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
    """Where one method's files are. Nothing is created until it is written.

    Attributes:
        path: The folder `<method>`.
    """

    path: Path

    def split_folder(self, split: str) -> Path:
        """Folder of a split's videos; `split` under either of its names.

        Raises:
            ValueError: No such split.
        """
        return self.path / PUBLIC_NAMES[split_of(split)]

    def video(self, split: str, scene: str) -> Path:
        """The video of a scene.

        Raises:
            ValueError: No such split, or an id that is no file name.
        """
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

    def eval_file(self, split: str, name: EvalName) -> Path:
        """One of the other evaluations of a split."""
        return self.path / "eval" / PUBLIC_NAMES[split_of(split)] / f"{name}.json"


def read_method_info(folder: MethodFolder) -> MethodInfo:
    """Read method_info.json.

    Raises:
        BenchDataError: The file is missing or damaged, or a key is missing or makes no sense.
    """
    path = folder.info_file()
    row = parse_object(read_text(path), path)
    need(row, ("model", "variant", "fps", "resolution"), path, "the document")
    resolution, refiner = row["resolution"], row.get("refiner")
    if isinstance(resolution, list):
        resolution = "x".join(str(side) for side in resolution)
    known = ("model", "variant", "fps", "resolution", "refiner")
    return MethodInfo(
        model=text(row, "model", path, "the document"),
        variant=text(row, "variant", path, "the document"),
        fps=number(row, "fps", path, "the document"),
        resolution=str(resolution),
        refiner=str(refiner) if refiner else None,
        extra={key: value for key, value in row.items() if key not in known},
    )


def write_method_info(folder: MethodFolder, info: MethodInfo) -> None:
    """Write method_info.json whole.

    Raises:
        ValueError: A number is not finite.
    """
    row = {
        **info.extra,
        "model": info.model,
        "variant": info.variant,
        "fps": info.fps,
        "resolution": info.resolution,
    }
    if info.refiner is not None:
        row["refiner"] = info.refiner
    write_json(folder.info_file(), row)


def read_pose_errors(path: Path) -> dict[str, ScenePoseErrors]:
    """Read an eval_poses.json, scene id -> errors, in the file's order.

    Rotation errors come out in degrees. A scene without `RotErr_unit` is refused: evaluators
    wrote radians before they wrote the unit, and the number alone does not tell which it is.

    Raises:
        BenchDataError: The file is missing or damaged, or a scene lacks a key, its unit above all.
    """
    document = parse_object(read_text(path), path)
    return {scene: _pose_errors(row, path, f"scene {scene}") for scene, row in document.items()}


def _pose_errors(row: Any, path: Path, where: str) -> ScenePoseErrors:
    if not isinstance(row, dict):
        raise BenchDataError("bad_value", path, f"{where} is no json object")
    if "RotErr_unit" not in row:
        raise BenchDataError(
            "missing_key",
            path,
            f"{where} lacks RotErr_unit; files without it hold radians. Score again, or add "
            '"RotErr_unit": "rad" if you know that it is so',
        )
    need(row, _POSE_KEYS, path, where)
    unit = text(row, "RotErr_unit", path, where)
    if unit not in _TO_DEGREES:
        raise BenchDataError(
            "bad_value", path, f"{where}: RotErr_unit is {unit!r}, expected 'deg' or 'rad'"
        )
    known = (*_POSE_KEYS, "RotErr_unit", "skip_first_frame")
    return ScenePoseErrors(
        rot_err_deg=number(row, "RotErr", path, where) * _TO_DEGREES[unit],
        trans_err=number(row, "TransErr_rel", path, where),
        cam_mc=number(row, "CamMC_rel", path, where),
        scene_type=text(row, "scene_type", path, where),
        n_frames=count(row, "n_frames", path, where),
        skip_first_frame=bool(row.get("skip_first_frame", False)),
        extra={key: value for key, value in row.items() if key not in known},
    )


def write_pose_errors(path: Path, errors: Mapping[str, ScenePoseErrors]) -> None:
    """Write an eval_poses.json whole, with its unit.

    Raises:
        ValueError: A number is not finite: leave that scene out.
    """
    write_json(
        path,
        {
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
        },
    )


def read_eval(folder: MethodFolder, split: str, name: EvalName) -> Row:
    """Read one of the files under eval/<split>.

    Raises:
        BenchDataError: The file is missing or no json object.
    """
    path = folder.eval_file(split, name)
    return parse_object(read_text(path), path)


def write_eval(folder: MethodFolder, split: str, name: EvalName, document: Row) -> None:
    """Write one of the files under eval/<split> whole.

    Raises:
        ValueError: A number is not finite.
    """
    write_json(folder.eval_file(split, name), document)
