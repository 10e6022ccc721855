"""Reading the public SANA-WM-Bench layout. Unknown keys are ignored. Errors in one scene are raised
when it is read, by `read_scene` of an entry of `list_scenes`, so that the others stay usable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sana_wm_gym.camera.image import intrinsics_per_frame
from sana_wm_gym.camera.revisits import RevisitPair
from sana_wm_gym.camera.se3 import geodesic_angle, relative_to_first
from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.evaluation.bench.files import (
    BenchDataError,
    Fault,
    Record,
    open_picture,
    read_arrays,
    read_text,
)
from sana_wm_gym.evaluation.bench.layout import (
    FOLDERS,
    MANIFEST,
    SAFE_ID,
    TRAJECTORIES,
    Array,
    BenchScene,
    Split,
    split_of,
)

_ROW_KEYS = (
    "id", "prompt", "scene_type", "image_path", "camera_path", "trajectory_id", "sanawm_frames",
    "expected_fps", "expected_video_frames", "trim_to_frames",
)  # fmt: skip
_PROCEDURAL_KEYS = ("procedural_scene", "scene_c2w")
_SAME_FPS = 0.1


@dataclass(frozen=True)
class SceneEntry:
    """A scene as the split's indices name it; its own files are not read yet.

    Attributes:
        root: Folder of the bench.
        split: Which split.
        id: Scene id.
        manifest: Its row in the manifest.
        trajectory: Its row in `scene_trajectories_v2.json`, None where there is none.
    """

    root: Path
    split: Split
    id: str
    manifest: Record
    trajectory: Record | None


def list_scenes(root: Path, split: str) -> tuple[SceneEntry, ...]:
    """The scenes of a split in the manifest's order, from the two indices alone.

    Raises:
        BenchDataError: An index is missing or damaged, a manifest line is no json object or has
            no usable id, or an id stands there twice.
        ValueError: No such split.
    """
    name = split_of(split)
    manifest, trajectories = (root / FOLDERS[name] / file for file in (MANIFEST, TRAJECTORIES))
    rows: dict[str, tuple[int, Record]] = {}
    for line, content in enumerate(read_text(manifest).split("\n"), start=1):
        if not content.strip():
            continue
        row = Record.parse(content, manifest, f"line {line}")
        scene = row.text("id")
        if not SAFE_ID.fullmatch(scene):
            expected = "expected letters, digits, '.', '_' and '-'"
            raise row.error("bad_value", f"id {scene!r}, {expected}")
        if scene in rows:
            message = f"id {scene!r} again, first on line {rows[scene][0]}"
            raise row.error("inconsistent", message)
        rows[scene] = line, Record(row.row, manifest, f"line {line} (scene {scene})")
    if not rows:
        raise BenchDataError("corrupt_file", manifest, "empty, expected one json object per scene")
    paths = _trajectories(Record.read(trajectories))
    return tuple(
        SceneEntry(root, name, scene, row, paths.get(scene)) for scene, (_, row) in rows.items()
    )


def _trajectories(document: Record) -> dict[str, Record]:
    document.need("scenes")
    scenes = document.row["scenes"]
    if not isinstance(scenes, list):
        raise document.error("bad_value", "scenes is no list")
    found = {}
    for index, row in enumerate(scenes):
        scene = Record.of(row, document.path, f"scenes[{index}]").text("scene_id")
        found[scene] = Record(row, document.path, f"scene {scene}")
    return found


def read_scene(entry: SceneEntry) -> BenchScene:
    """Read and check one scene. Poses are taken relative to the first.

    Raises:
        BenchDataError: A key is missing, a file is missing or damaged, a value or array does not
            make sense, a pose is not rigid, or files contradict each other.
    """
    root, row = entry.root, entry.manifest
    row.need(*_ROW_KEYS)
    camera_path, image_path = row.file("camera_path", root), row.file("image_path", root)
    c2w, intrinsics, fps = read_camera(camera_path)
    frames, expected_fps = row.count("sanawm_frames", least=1), row.number("expected_fps")
    if frames != len(c2w):
        message = f"{len(c2w)} poses, but {row.path.name} has {frames}"
        raise BenchDataError("inconsistent", camera_path, message)
    if abs(expected_fps - fps) >= _SAME_FPS:
        message = f"fps is {fps:g}, but {row.path.name} has {expected_fps:g}"
        raise BenchDataError("inconsistent", camera_path, message)
    lengths = {k: row.count(k, least=1) for k in ("expected_video_frames", "trim_to_frames")}
    for key, length in lengths.items():
        if length > frames:
            raise row.error("bad_value", f"{key} is {length}, more than the {frames} poses")
    seed, scene_c2w = _procedural(row)
    with open_picture(image_path) as image:
        size = image.height, image.width
    return BenchScene(
        id=entry.id,
        prompt=row.text("prompt"),
        scene_type=row.text("scene_type"),
        trajectory_id=row.text("trajectory_id"),
        image_path=image_path,
        camera_path=camera_path,
        image_size=size,
        c2w=c2w,
        intrinsics=intrinsics,
        fps=fps,
        revisits=_revisits(entry, c2w),
        **lengths,
        procedural_scene=seed,
        scene_c2w=scene_c2w,
        extra={k: v for k, v in row.row.items() if k not in (*_ROW_KEYS, *_PROCEDURAL_KEYS)},
    )


def read_bench(root: Path, split: str) -> tuple[BenchScene, ...]:
    """Every scene of a split. Raises as `list_scenes` and `read_scene`, at the first error."""
    return tuple(read_scene(entry) for entry in list_scenes(root, split))


def read_camera(path: Path) -> tuple[Array, Array, float]:
    """Read and check a camera: c2w [n, 4, 4], intrinsics [n, 3, 3], fps, num_frames.

    Intrinsics may also be one matrix for all frames, or (fx, fy, cx, cy), per frame or once.

    Returns:
        Poses relative to the first, float64 [n, 4, 4]; (fx, fy, cx, cy) in pixels of the first
        frame, float64 [n, 4]; poses per second.

    Raises:
        BenchDataError: The file is missing or damaged, lacks an array, or an array has another
            shape or values that no camera has.
    """
    arrays = read_arrays(path, ("c2w", "intrinsics", "fps", "num_frames"))
    for key, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise BenchDataError("bad_value", path, f"{key} is {array.dtype}, expected numbers")
    c2w, intrinsics = arrays["c2w"].astype(np.float64), arrays["intrinsics"]
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4) or len(c2w) == 0:
        raise BenchDataError("bad_value", path, f"c2w is {c2w.shape}, expected (n, 4, 4), n >= 1")
    if arrays["fps"].size != 1 or arrays["num_frames"].size != 1:
        raise BenchDataError("bad_value", path, "fps and num_frames are no scalars")
    fps, frames = float(arrays["fps"].item()), arrays["num_frames"].item()
    if not (math.isfinite(fps) and fps > 0):
        raise BenchDataError("bad_value", path, f"fps is {fps}, expected positive")
    if frames != len(c2w):
        raise BenchDataError("inconsistent", path, f"num_frames is {frames} for {len(c2w)} poses")
    shapes = ((len(c2w), 3, 3), (len(c2w), 4), (3, 3), (4,))
    if intrinsics.shape not in shapes:
        message = f"intrinsics are {intrinsics.shape}, expected {shapes[0]}, in pixels"
        raise BenchDataError("bad_value", path, message)
    code: Fault = "bad_poses"
    try:
        check_rigid(c2w, "c2w")
        code = "bad_value"
        return relative_to_first(c2w), intrinsics_per_frame(intrinsics, len(c2w)), fps
    except ValueError as error:
        raise BenchDataError(code, path, str(error)) from error


def _procedural(row: Record) -> tuple[int | None, Array | None]:
    if all(row.row.get(key) is None for key in _PROCEDURAL_KEYS):
        return None, None
    row.need(*_PROCEDURAL_KEYS)
    seed = row.count("procedural_scene")
    try:
        pose = np.array(row.row["scene_c2w"], dtype=np.float64)
        if pose.shape != (4, 4):
            raise ValueError(f"shape {pose.shape}, expected (4, 4)")
        check_rigid(pose[None], "scene_c2w")
    except (TypeError, ValueError) as error:
        raise row.error("bad_poses", f"scene_c2w: {error}") from error
    return seed, pose


def _revisits(entry: SceneEntry, c2w: Array) -> tuple[RevisitPair, ...]:
    """The scene's pairs, best first; those without a quality get `inf` and come last."""
    row = entry.trajectory
    if row is None:
        path = entry.root / FOLDERS[entry.split] / TRAJECTORIES
        raise BenchDataError("missing_scene", path, f"no scene_id {entry.id!r}")
    row.need("trajectory_id", "evaluation_pairs")
    name, given = row.row["trajectory_id"], entry.manifest.row["trajectory_id"]
    if name != given:
        raise row.error("inconsistent", f"trajectory_id is {name!r}, the manifest has {given!r}")
    pairs = row.row["evaluation_pairs"]
    if not isinstance(pairs, list):
        raise row.error("bad_value", "evaluation_pairs is no list")
    read = [_pair(row, index, pair, c2w) for index, pair in enumerate(pairs)]
    return tuple(sorted(read, key=lambda pair: pair.quality))


def _pair(row: Record, index: int, value: Any, c2w: Array) -> RevisitPair:
    """A pair, an object or just two frame numbers; what it lacks is measured on the poses."""
    if isinstance(value, list) and len(value) == 2:
        value = {"frame_a": value[0], "frame_b": value[1]}
    pair = Record.of(value, row.path, f"{row.where}, evaluation_pairs[{index}]")
    pair.need("frame_a", "frame_b")
    a, b = pair.count("frame_a"), pair.count("frame_b")
    if max(a, b) >= len(c2w):
        raise pair.error("bad_value", f"frames {a} and {b}, expected below {len(c2w)}")

    def given(key: str, otherwise: float) -> float:
        return otherwise if value.get(key) is None else pair.number(key)

    turn = math.degrees(float(geodesic_angle(c2w[a, :3, :3], c2w[b, :3, :3])))
    return RevisitPair(
        frame_a=a,
        frame_b=b,
        distance_m=given("distance_m", float(np.linalg.norm(c2w[a, :3, 3] - c2w[b, :3, 3]))),
        angle_deg=given("angle_diff_deg", turn),
        quality=given("quality_score", math.inf),
    )
