"""Reading the public SANA-WM-Bench layout; `write.py` writes it.

    images/<scene>.png                          first frame, shared by both splits
    scene_set/kept_scenes.txt                   one scene id per line
    benchmark_v2_smooth_60s/                    split "simple" (public name simple_60s)
    benchmark_v2_hard_60s/                      split "hard" (public name hard_60s)
        scene_trajectories_v2.json              {"scenes": [...]}: revisit pairs
        sanawm_export_v2/run_manifest.jsonl     one object per scene
        sanawm_export_v2/<scene>.npz            c2w, intrinsics, fps, num_frames

Unknown keys are passed over, missing ones are named. What is wrong with one scene is found when
that scene is read, so that the others stay usable:

    for entry in list_scenes(root, "simple"):
        scene = read_scene(entry)               # BenchDataError: this scene alone

Source: the benchmark guide and the evaluator published with SANA-WM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.revisits import RevisitPair
from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.evaluation.bench.camera_file import read_camera
from sana_wm_gym.evaluation.bench.files import (
    BenchDataError,
    Picture,
    Row,
    count,
    inside,
    need,
    number,
    parse_object,
    picture_size,
    read_picture,
    read_text,
    text,
)
from sana_wm_gym.evaluation.bench.pairs import read_pairs

Array = npt.NDArray[np.float64]
Split = Literal["simple", "hard"]

FOLDERS: Mapping[Split, str] = MappingProxyType(
    {"simple": "benchmark_v2_smooth_60s", "hard": "benchmark_v2_hard_60s"}
)
"""Split -> its folder."""
PUBLIC_NAMES: Mapping[Split, str] = MappingProxyType({"simple": "simple_60s", "hard": "hard_60s"})
"""Split -> the name that folders of results carry."""
IMAGES = "images"
KEPT_SCENES = "scene_set/kept_scenes.txt"
TRAJECTORIES = "scene_trajectories_v2.json"
EXPORT = "sanawm_export_v2"
MANIFEST = f"{EXPORT}/run_manifest.jsonl"

_ROW_KEYS = (
    "id",
    "prompt",
    "scene_type",
    "image_path",
    "camera_path",
    "trajectory_id",
    "sanawm_frames",
    "expected_fps",
    "expected_video_frames",
    "trim_to_frames",
)
_PROCEDURAL_KEYS = ("procedural_scene", "scene_c2w")
_SAME_FPS = 0.1
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Scene ids become file names."""


@dataclass(frozen=True, eq=False)
class BenchScene:
    """A scene: first frame, text and camera path.

    Attributes:
        id: Name, unique in its split; `<scene_type>_<number>` in the public bench.
        prompt: Scene text.
        scene_type: Category, for means per category.
        trajectory_id: Name of the path.
        image_path: First frame.
        camera_path: The npz with the poses.
        image_size: (height, width) of the first frame in pixels.
        c2w: Camera-to-world poses relative to the first frame, float64 [n, 4, 4], metres.
        intrinsics: (fx, fy, cx, cy) per pose in pixels of the first frame, float64 [n, 4].
        fps: Poses per second.
        revisits: Pairs of frames that should look alike, best first; those without a quality
            carry `inf` and come last.
        expected_video_frames: Frames that a generated video should have.
        trim_to_frames: Frames of it that count.
        procedural_scene: Seed of the procedural scene that the first frame was taken in, or None.
        scene_c2w: Pose of the first frame in that scene, float64 [4, 4], or None.
        extra: Further keys of the manifest row.
    """

    id: str
    prompt: str
    scene_type: str
    trajectory_id: str
    image_path: Path
    camera_path: Path
    image_size: tuple[int, int]
    c2w: Array
    intrinsics: Array
    fps: float
    revisits: tuple[RevisitPair, ...]
    expected_video_frames: int
    trim_to_frames: int
    procedural_scene: int | None = None
    scene_c2w: Array | None = None
    extra: Row = field(default_factory=dict)

    def image(self) -> Picture:
        """The first frame, uint8 [height, width, 3] RGB.

        Raises:
            BenchDataError: The file is missing or damaged.
        """
        return read_picture(self.image_path)


@dataclass(frozen=True)
class SceneEntry:
    """A scene as the split's indices name it; its own files are not looked at yet.

    Attributes:
        root: Folder of the bench.
        split: Which split.
        id: Scene id.
        line: Its line in the manifest, from 1.
        row: The manifest row.
        trajectory: The scene's row in `scene_trajectories_v2.json`, None where there is none.
    """

    root: Path
    split: Split
    id: str
    line: int
    row: Row
    trajectory: Row | None


def split_of(name: str) -> Split:
    """ "simple" or "hard", from that name or the public one (`simple_60s`, `hard_60s`).

    Raises:
        ValueError: Another name.
    """
    for split, public in PUBLIC_NAMES.items():
        if name in (split, public):
            return split
    known = ", ".join([*PUBLIC_NAMES, *PUBLIC_NAMES.values()])
    raise ValueError(f"unknown split {name!r}, expected one of {known}")


def image_file(root: Path, scene: str) -> Path:
    """Where the layout keeps a scene's first frame."""
    return root / IMAGES / f"{scene}.png"


def camera_file(root: Path, split: Split, scene: str) -> Path:
    """Where the layout keeps a scene's poses."""
    return root / FOLDERS[split] / EXPORT / f"{scene}.npz"


def list_scenes(root: Path, split: str) -> tuple[SceneEntry, ...]:
    """The scenes of a split in the manifest's order, from the two indices alone.

    Raises:
        BenchDataError: An index is missing or damaged, a manifest line is no json object or has
            no usable id, or an id stands there twice.
        ValueError: No such split.
    """
    name = split_of(split)
    manifest = root / FOLDERS[name] / MANIFEST
    rows: dict[str, tuple[int, Row]] = {}
    for line, content in enumerate(read_text(manifest).split("\n"), start=1):
        if not content.strip():
            continue
        row = parse_object(content, manifest, f"line {line}")
        need(row, ("id",), manifest, f"line {line}")
        scene = text(row, "id", manifest, f"line {line}")
        if not SAFE_ID.fullmatch(scene):
            message = f"line {line}: id {scene!r}, expected letters, digits, '.', '_' and '-'"
            raise BenchDataError("bad_value", manifest, message)
        if scene in rows:
            message = f"line {line}: id {scene!r} again, first on line {rows[scene][0]}"
            raise BenchDataError("inconsistent", manifest, message)
        rows[scene] = line, row
    if not rows:
        raise BenchDataError("corrupt_file", manifest, "empty, expected one json object per scene")
    paths = _trajectory_rows(root / FOLDERS[name] / TRAJECTORIES)
    return tuple(
        SceneEntry(root, name, scene, line, row, paths.get(scene))
        for scene, (line, row) in rows.items()
    )


def _trajectory_rows(path: Path) -> dict[str, Row]:
    document = parse_object(read_text(path), path)
    need(document, ("scenes",), path, "the document")
    scenes = document["scenes"]
    if not isinstance(scenes, list) or not all(isinstance(scene, dict) for scene in scenes):
        raise BenchDataError("bad_value", path, "scenes is no list of json objects")
    for index, scene in enumerate(scenes):
        need(scene, ("scene_id",), path, f"scenes[{index}]")
    return {text(scene, "scene_id", path, "a scene"): scene for scene in scenes}


def read_scene(entry: SceneEntry) -> BenchScene:
    """Read and check one scene. Poses are taken relative to the first.

    Raises:
        BenchDataError: A key is missing, a file is missing or damaged, a value or array does not
            make sense, a pose is not rigid, or files contradict each other.
    """
    root, row = entry.root, entry.row
    manifest = root / FOLDERS[entry.split] / MANIFEST
    where = f"line {entry.line} (scene {entry.id})"
    need(row, _ROW_KEYS, manifest, where)
    camera_path = inside(root, row, "camera_path", manifest, where)
    image_path = inside(root, row, "image_path", manifest, where)
    c2w, intrinsics, fps = read_camera(camera_path)
    frames = count(row, "sanawm_frames", manifest, where, least=1)
    if frames != len(c2w):
        message = f"{len(c2w)} poses, but {manifest.name} says {frames}"
        raise BenchDataError("inconsistent", camera_path, message)
    expected_fps = number(row, "expected_fps", manifest, where)
    if abs(expected_fps - fps) >= _SAME_FPS:
        message = f"fps is {fps:g}, but {manifest.name} says {expected_fps:g}"
        raise BenchDataError("inconsistent", camera_path, message)
    lengths = {}
    for key in ("expected_video_frames", "trim_to_frames"):
        lengths[key] = count(row, key, manifest, where, least=1)
        if lengths[key] > frames:
            message = f"{where}: {key} is {lengths[key]}, more than the {frames} poses"
            raise BenchDataError("bad_value", manifest, message)
    seed, scene_c2w = _procedural(row, manifest, where)
    return BenchScene(
        id=entry.id,
        prompt=text(row, "prompt", manifest, where),
        scene_type=text(row, "scene_type", manifest, where),
        trajectory_id=text(row, "trajectory_id", manifest, where),
        image_path=image_path,
        camera_path=camera_path,
        image_size=picture_size(image_path),
        c2w=c2w,
        intrinsics=intrinsics,
        fps=fps,
        revisits=_revisits(entry, c2w),
        expected_video_frames=lengths["expected_video_frames"],
        trim_to_frames=lengths["trim_to_frames"],
        procedural_scene=seed,
        scene_c2w=scene_c2w,
        extra={k: v for k, v in row.items() if k not in (*_ROW_KEYS, *_PROCEDURAL_KEYS)},
    )


def read_bench(root: Path, split: str) -> tuple[BenchScene, ...]:
    """Every scene of a split.

    Raises:
        BenchDataError: As `list_scenes` and `read_scene`; the first fault ends it.
        ValueError: No such split.
    """
    return tuple(read_scene(entry) for entry in list_scenes(root, split))


def _revisits(entry: SceneEntry, c2w: Array) -> tuple[RevisitPair, ...]:
    path = entry.root / FOLDERS[entry.split] / TRAJECTORIES
    if entry.trajectory is None:
        raise BenchDataError("missing_scene", path, f"no scene_id {entry.id!r}")
    where = f"scene {entry.id}"
    need(entry.trajectory, ("trajectory_id", "evaluation_pairs"), path, where)
    name, given = entry.trajectory["trajectory_id"], entry.row["trajectory_id"]
    if name != given:
        message = f"{where}: trajectory_id is {name!r}, the manifest says {given!r}"
        raise BenchDataError("inconsistent", path, message)
    return read_pairs(entry.trajectory, c2w, path, where)


def _procedural(row: Row, path: Path, where: str) -> tuple[int | None, Array | None]:
    if all(row.get(key) is None for key in _PROCEDURAL_KEYS):
        return None, None
    need(row, _PROCEDURAL_KEYS, path, where)
    seed = count(row, "procedural_scene", path, where)
    try:
        pose = np.array(row["scene_c2w"], dtype=np.float64)
        if pose.shape != (4, 4):
            raise ValueError(f"shape {pose.shape}, expected (4, 4)")
        check_rigid(pose[None], "scene_c2w")
    except (TypeError, ValueError) as error:
        raise BenchDataError("bad_poses", path, f"{where}: scene_c2w: {error}") from error
    return seed, pose
