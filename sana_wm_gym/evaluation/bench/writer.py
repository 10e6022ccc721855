"""Writing the public SANA-WM-Bench layout."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.evaluation.bench.files import Picture
from sana_wm_gym.evaluation.bench.layout import (
    FOLDERS,
    KEPT_SCENES,
    MANIFEST,
    SAFE_ID,
    TRAJECTORIES,
    Array,
    BenchScene,
    camera_file,
    image_file,
    split_of,
)
from sana_wm_gym.evaluation.bench.reader import list_scenes
from sana_wm_gym.files import atomic_path, write_text


def write_bench(
    root: Path, split: str, scenes: Sequence[BenchScene], images: Sequence[Picture]
) -> tuple[BenchScene, ...]:
    """Write a split, each file in one step, the indices last. Files go where the layout has them,
    whatever paths the given scenes name; both splits share the picture of a scene.

    Args:
        root: Folder of the bench.
        split: Which split.
        scenes: What to write.
        images: Their first frames, uint8 [height, width, 3].

    Returns:
        The scenes with the paths they now have.

    Raises:
        ValueError: No scene, an id that is no unique file name, poses that are not rigid, or not
            one picture of the right size per scene.
    """
    name, ids = split_of(split), [scene.id for scene in scenes]
    if not ids or len(set(ids)) != len(ids) or not all(map(SAFE_ID.fullmatch, ids)):
        raise ValueError(f"scene ids are {ids}, expected at least one, unique, fit for file names")
    for scene, image in zip(scenes, images, strict=True):
        shape = (*scene.image_size, 3)
        if image.dtype != np.uint8 or image.shape != shape:
            given = f"{image.dtype} {image.shape}"
            raise ValueError(f"picture of {scene.id} is {given}, expected uint8 {shape}")
        check_rigid(scene.c2w, f"c2w of {scene.id}")
    written = tuple(
        replace(
            one, image_path=image_file(root, one.id), camera_path=camera_file(root, name, one.id)
        )
        for one in scenes
    )
    document = {"scenes": [_trajectory_row(scene) for scene in written]}
    trajectories = json.dumps(document, indent=1, allow_nan=False)
    rows = [json.dumps(_manifest_row(root, scene), allow_nan=False) for scene in written]
    for scene, image in zip(written, images, strict=True):
        with atomic_path(scene.image_path) as partial:
            Image.fromarray(image).save(partial, format="png")
        write_camera(scene.camera_path, scene.c2w, scene.intrinsics, scene.fps)
    write_text(root / FOLDERS[name] / TRAJECTORIES, trajectories + "\n")
    write_text(root / FOLDERS[name] / MANIFEST, "\n".join(rows) + "\n")
    kept = [
        entry.id
        for other in FOLDERS
        if (root / FOLDERS[other] / MANIFEST).is_file()
        for entry in list_scenes(root, other)
    ]
    write_text(root / KEPT_SCENES, "\n".join(dict.fromkeys(kept)) + "\n")
    return written


def write_camera(path: Path, c2w: Array, intrinsics: Array, fps: float) -> None:
    """Write poses [n, 4, 4] and their (fx, fy, cx, cy) in pixels [n, 4] as `read_camera` reads
    them."""
    matrices = np.tile(np.eye(3), (len(intrinsics), 1, 1))
    matrices[:, (0, 1, 0, 1), (0, 1, 2, 2)] = intrinsics
    with atomic_path(path) as partial:
        np.savez_compressed(
            partial,
            c2w=c2w,
            intrinsics=matrices,
            fps=np.float64(fps),
            num_frames=np.int64(len(c2w)),
        )


def _manifest_row(root: Path, scene: BenchScene) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": scene.id,
        "prompt": scene.prompt,
        "scene_type": scene.scene_type,
        "image_path": scene.image_path.relative_to(root).as_posix(),
        "camera_path": scene.camera_path.relative_to(root).as_posix(),
        "trajectory_id": scene.trajectory_id,
        "sanawm_frames": len(scene.c2w),
        "expected_fps": float(scene.fps),
        "expected_video_frames": scene.expected_video_frames,
        "trim_to_frames": scene.trim_to_frames,
    }
    if scene.procedural_scene is not None and scene.scene_c2w is not None:
        row["procedural_scene"] = scene.procedural_scene
        row["scene_c2w"] = scene.scene_c2w.tolist()
    return {**row, **{key: value for key, value in scene.extra.items() if key not in row}}


def _trajectory_row(scene: BenchScene) -> dict[str, Any]:
    pairs = []
    for pair in scene.revisits:
        row: dict[str, float] = {"frame_a": pair.frame_a, "frame_b": pair.frame_b}
        row |= {"distance_m": pair.distance_m, "angle_diff_deg": pair.angle_deg}
        pairs.append(row | ({"quality_score": pair.quality} if math.isfinite(pair.quality) else {}))
    ids = {"scene_id": scene.id, "trajectory_id": scene.trajectory_id}
    return {**ids, "evaluation_pairs": pairs}
