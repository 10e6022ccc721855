"""A bench whose truth is known: the public layout, built from the scenes of a procedural world.

Every bench scene has a first frame in some procedural scene and two paths from it, a simple and a
hard one. Scenes are surveyed with the renderer's depth first; a start is chosen where both paths
keep clear of what was seen, and have something to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.revisits import find_revisits
from sana_wm_gym.camera.se3 import invert, rotation_x, rotation_y
from sana_wm_gym.camera.synthesis import (
    DEPTH_SHARE,
    SynthesisedTrajectory,
    Template,
    near_points,
    synthesise,
)
from sana_wm_gym.camera.templates import HARD, SIMPLE
from sana_wm_gym.checks import require_integer
from sana_wm_gym.evaluation.bench.layout import BenchScene, Split, camera_file, image_file
from sana_wm_gym.evaluation.bench.writer import write_bench
from sana_wm_gym.evaluation.outside_training import outside_training
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render, render_geometry
from sana_wm_gym.world.procedural.scenes import Scene, cast, generate_scene, sample_pose
from sana_wm_gym.world.world_model import WorldSpec

Array = npt.NDArray[np.float64]

FULL_FRAMES = 60 * 16 + 1
"""Poses of a whole path: a minute at 16 frames per second."""
TEMPLATES: Mapping[Split, tuple[Template, ...]] = MappingProxyType({"simple": SIMPLE, "hard": HARD})
"""Split -> its paths."""

_STANDPOINTS = 40
_CANDIDATES = 64
_PIXELS = 32
_VOXEL = 0.08
_EVERY = 8

# A cube of views, 90 degrees each: four around, up and down.
_CUBE = (
    *(rotation_y(np.pi / 2 * turn) for turn in range(4)),
    rotation_x(np.pi / 2),
    rotation_x(-np.pi / 2),
)


@dataclass(frozen=True, eq=False)
class Survey:
    """A scene and points on its surfaces in scene axes, float64 [m, 3]: one per 8 cm cell that was
    seen."""

    scene: Scene
    points: Array


@lru_cache(maxsize=8)
def survey(seed: int) -> Survey:
    """Look all around from many places of a scene; the same places every time."""
    scene, rng = generate_scene(seed), np.random.default_rng([seed, _STANDPOINTS])
    points = np.concatenate([_seen(scene, sample_pose(scene, rng)) for _ in range(_STANDPOINTS)])
    _, first = np.unique(np.floor(points / _VOXEL), axis=0, return_index=True)
    points = points[np.sort(first)]
    points.setflags(write=False)
    return Survey(scene, points)


def _seen(scene: Scene, c2w: Array) -> Array:
    """Points [m, 3] that the depth of a cube of views at a pose shows, in scene axes."""
    views = np.tile(c2w, (len(_CUBE), 1, 1))
    views[:, :3, :3] = c2w[:3, :3] @ np.stack(_CUBE)
    size = (_PIXELS, _PIXELS)
    focal, _, centre, _ = intrinsics = default_intrinsics(*size, field_of_view=90.0)
    depth = render_geometry(scene, views, np.array(intrinsics), size)[0].astype(np.float64)
    across = (np.arange(_PIXELS) + 0.5 - centre) / focal
    x, y = np.meshgrid(across, across)
    points = np.stack([depth * x, depth * y, depth], axis=-1).reshape(len(views), -1, 3)
    turned = points @ np.swapaxes(views[:, :3, :3], -1, -2) + views[:, None, :3, 3]
    return np.asarray(turned.reshape(-1, 3))


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A first frame: its pose in scene axes, float64 [4, 4], and the median depth in metres."""

    c2w: Array
    median_depth: float


def choose_start(
    place: Survey, paths: Sequence[SynthesisedTrajectory], spec: WorldSpec, rng: np.random.Generator
) -> Viewpoint:
    """Of some random starts the one that suits all paths best: most of them clear, then the
    longest nearest view ahead.

    Args:
        place: The scene.
        paths: At the size that speed allows; depth is applied here.
        spec: How first frames are taken.
        rng: Where to look for starts.

    Raises:
        ValueError: The scene leaves no place to stand.
    """
    starts = np.stack(
        [sample_pose(place.scene, rng, radius=spec.start_radius) for _ in range(_CANDIDATES)]
    )
    shrink = min(1.0, _PIXELS / max(spec.height, spec.width))
    size = (round(spec.height * shrink), round(spec.width * shrink))
    depths = render_geometry(place.scene, starts, np.array(spec.intrinsics) * shrink, size)[0]
    views = [
        Viewpoint(start, float(depth))
        for start, depth in zip(starts, np.median(depths, axis=(1, 2)), strict=True)
    ]
    blocked = near_points(place.points)

    def merit(view: Viewpoint) -> tuple[int, float]:
        clear, nearest = 0, np.inf
        for path in paths:
            poses = path.c2w[::_EVERY].copy()
            poses[:, :3, 3] *= min(1.0, DEPTH_SHARE * view.median_depth / max(path.extent, 1e-9))
            poses = view.c2w @ poses
            if not blocked(poses[:, :3, 3]).any():
                clear += 1
                ahead = cast(place.scene, poses[:, :3, 3], poses[:, :3, 2])
                nearest = min(nearest, float(ahead.min()))
        return clear, nearest

    return max(views, key=merit)


def build_bench(
    root: Path,
    spec: WorldSpec,
    scenes_per_split: int,
    frames: int = FULL_FRAMES,
    seed: int = 0,
    on_scene: Callable[[], None] = lambda: None,
) -> dict[Split, tuple[BenchScene, ...]]:
    """Build and write a bench.

    Bench scene i takes scene i and template i of either split; lists that end begin again. The
    same arguments give the same files, byte for byte.

    Args:
        root: Folder to write to.
        spec: The world that the bench is for: its scenes, frame size, rate and intrinsics.
        scenes_per_split: How many scenes.
        frames: Poses of each path; paths are always those of a full minute, and cut.
        seed: Source of all starts.
        on_scene: Called after each scene, for progress.

    Returns:
        The scenes of each split.

    Raises:
        ValueError: An argument is out of range, or a scene leaves no place to stand.
    """
    require_integer("scenes per split", scenes_per_split, 1)
    require_integer("seed", seed, 0)
    spec.require_camera("a bench of camera paths")
    chunk = spec.frames_per_chunk
    if not chunk < frames <= FULL_FRAMES or (frames - 1) % chunk:
        expected = f"{chunk} k + 1 up to {FULL_FRAMES}: the first frame and whole chunks"
        raise ValueError(f"frames is {frames}, expected {expected}")
    built: dict[Split, list[BenchScene]] = {split: [] for split in TEMPLATES}
    images, kinds = [], Counter[str]()
    for index in range(scenes_per_split):
        place = survey(spec.scenes[index % len(spec.scenes)])
        chosen = {split: listed[index % len(listed)] for split, listed in TEMPLATES.items()}
        unbounded = [synthesise(template, FULL_FRAMES, spec.fps) for template in chosen.values()]
        start = choose_start(place, unbounded, spec, np.random.default_rng([seed, index]))
        kind = "procedural_courtyard" if place.scene.open_sky else "procedural_room"
        kinds[kind] += 1
        name = f"{kind}_{kinds[kind]:03d}"
        view, size = np.array(spec.intrinsics), (spec.height, spec.width)
        images.append(render(place.scene, start.c2w[None], view, size)[0])
        inverse = invert(start.c2w)
        collides = near_points(place.points @ inverse[:3, :3].T + inverse[:3, 3])
        for split, template in chosen.items():
            path = synthesise(
                template,
                FULL_FRAMES,
                spec.fps,
                median_depth=start.median_depth,
                collides=collides,
            )
            outside = outside_training(start.c2w @ path.c2w[:frames])
            built[split].append(
                BenchScene(
                    id=name,
                    prompt=prompt(place.scene),
                    scene_type=kind,
                    trajectory_id=template.name,
                    image_path=image_file(root, name),
                    camera_path=camera_file(root, split, name),
                    image_size=(spec.height, spec.width),
                    c2w=path.c2w[:frames],
                    intrinsics=np.tile(spec.intrinsics, (frames, 1)),
                    fps=spec.fps,
                    # As in the public bench, the last pose closes the last frame and is no frame.
                    revisits=find_revisits(path.c2w[: frames - 1], spec.fps),
                    expected_video_frames=frames - 1,
                    trim_to_frames=frames - 1,
                    procedural_scene=place.scene.seed,
                    scene_c2w=start.c2w,
                    extra={
                        "world": spec.name,
                        "median_depth_m": start.median_depth,
                        "extent_m": path.extent,
                        "collision_status": path.collision_status,
                        "collision_retries": path.retries,
                        "smoothness": asdict(path.smoothness),
                        "outside_training": [flag.what for flag in outside],
                    },
                )
            )
        on_scene()
    return {split: write_bench(root, split, scenes, images) for split, scenes in built.items()}


def prompt(scene: Scene) -> str:
    """The variants that a scene shows, or a plain sentence about one that never varies."""
    if scene.surfaces:
        return prompt_of(scene.surfaces, scene.appearance)
    blocks = len(scene.lower) - 1
    count = {4: "four", 5: "five"}.get(blocks, str(blocks))
    if scene.open_sky:
        return f"A courtyard with {count} painted blocks, patterned walls and an open sky."
    return f"A room with {count} painted blocks, patterned walls, floor and ceiling."
