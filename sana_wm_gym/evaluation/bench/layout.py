"""The public SANA-WM-Bench layout, which `reader` reads and `writer` writes, and what a scene is;
all files and keys are listed in docs/bench_data.md.

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
from sana_wm_gym.evaluation.bench.files import Picture, Row, open_picture

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
        """The first frame, uint8 [height, width, 3] RGB; `BenchDataError` for a bad file."""
        with open_picture(self.image_path) as image:
            return np.asarray(image.convert("RGB"))


def split_of(name: str) -> Split:
    """The split of this name or public name; `ValueError` for another one."""
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
