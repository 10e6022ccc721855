"""A bench whose truth is known: the public layout, built from the scenes of a procedural world.
Every bench scene has one first frame, and a simple and a hard path from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.revisits import find_revisits
from sana_wm_gym.camera.synthesis import (
    DEPTH_SHARE,
    MARGIN,
    SynthesisedTrajectory,
    Template,
    synthesise,
)
from sana_wm_gym.camera.templates import HARD, SIMPLE
from sana_wm_gym.checks import require_integer
from sana_wm_gym.evaluation.bench.layout import BenchScene, Split, camera_file, image_file
from sana_wm_gym.evaluation.bench.writer import write_bench
from sana_wm_gym.evaluation.outside_training import outside_training
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.procedural.renderer import render, render_geometry
from sana_wm_gym.world.procedural.scenes import Scene, cast, generate_scene, sample_pose
from sana_wm_gym.world.world_model import WorldSpec

Array = npt.NDArray[np.float64]

FULL_FRAMES = 60 * 16 + 1
"""Poses of a whole path: a minute at 16 frames per second."""
TEMPLATES: Mapping[Split, tuple[Template, ...]] = MappingProxyType({"simple": SIMPLE, "hard": HARD})
"""Split -> its paths."""

_CANDIDATES, _STRIDE, _PIXELS = 64, 8, 32  # starts; poses and depth to compare them by


def clearance(scene: Scene, positions: Array) -> Array:
    """Distance in metres of positions [n, 3] in a scene to its nearest surface, negative outside
    the room and 0 in a block, [n]."""
    walls = np.minimum(positions - scene.lower[0], scene.upper[0] - positions).min(-1)
    past = np.maximum(scene.lower[1:] - positions[:, None], positions[:, None] - scene.upper[1:])
    blocks = np.linalg.norm(np.maximum(past, 0), axis=-1).min(-1)
    return np.asarray(np.minimum(walls, blocks))


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A first frame: its pose in scene axes, float64 [4, 4], and the median depth in metres."""

    c2w: Array
    median_depth: float


def choose_start(
    scene: Scene, paths: Sequence[SynthesisedTrajectory], spec: WorldSpec, rng: np.random.Generator
) -> Viewpoint:
    """Of some random starts the one where most paths are clear, then the one whose nearest surface
    ahead is farthest. Paths have the size that speed allows; depth is applied here. `ValueError`
    where the scene has no free place.
    """
    radius = spec.start_radius
    starts = np.stack([sample_pose(scene, rng, radius=radius) for _ in range(_CANDIDATES)])
    shrink = min(1.0, _PIXELS / max(spec.height, spec.width))
    size = (round(spec.height * shrink), round(spec.width * shrink))
    depths = render_geometry(scene, starts, np.array(spec.intrinsics) * shrink, size)[0]
    views = [
        Viewpoint(start, float(depth))
        for start, depth in zip(starts, np.median(depths, axis=(1, 2)), strict=True)
    ]

    def merit(view: Viewpoint) -> tuple[int, float]:
        clear, nearest = 0, np.inf
        for path in paths:
            poses = path.c2w[::_STRIDE].copy()
            poses[:, :3, 3] *= min(1.0, DEPTH_SHARE * view.median_depth / max(path.extent, 1e-9))
            poses = view.c2w @ poses
            if clearance(scene, poses[:, :3, 3]).min() >= MARGIN:
                clear += 1
                ahead = cast(scene, poses[:, :3, 3], poses[:, :3, 2])
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

    Bench scene i takes scene i and template i of either split, in turn. The same arguments give the
    same files, byte for byte.

    Args:
        root: Folder to write to.
        spec: Scenes, frame size, rate and intrinsics.
        scenes_per_split: How many scenes.
        frames: Poses of each path, the beginning of that of a full minute.
        seed: Source of all starts.
        on_scene: Called after each scene, for progress.

    Raises:
        ValueError: An argument is out of range, or a scene has no free place.
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
        place = generate_scene(spec.scenes[index % len(spec.scenes)])
        chosen = {split: listed[index % len(listed)] for split, listed in TEMPLATES.items()}
        unbounded = [synthesise(template, FULL_FRAMES, spec.fps) for template in chosen.values()]
        start = choose_start(place, unbounded, spec, np.random.default_rng([seed, index]))
        kind = "procedural_courtyard" if place.open_sky else "procedural_room"
        kinds[kind] += 1
        name = f"{kind}_{kinds[kind]:03d}"
        view = np.array(spec.intrinsics)
        images.append(render(place, start.c2w[None], view, spec.size)[0])
        collides = partial(_collides, place, start.c2w)
        for split, template in chosen.items():
            depth = start.median_depth
            path = synthesise(
                template, FULL_FRAMES, spec.fps, median_depth=depth, collides=collides
            )
            outside = outside_training(start.c2w @ path.c2w[:frames])
            built[split].append(
                BenchScene(
                    id=name,
                    prompt=prompt(place),
                    scene_type=kind,
                    trajectory_id=template.name,
                    image_path=image_file(root, name),
                    camera_path=camera_file(root, split, name),
                    image_size=spec.size,
                    c2w=path.c2w[:frames],
                    intrinsics=np.tile(spec.intrinsics, (frames, 1)),
                    fps=spec.fps,
                    # As in the public bench, the last pose closes the last frame and is no frame.
                    revisits=find_revisits(path.c2w[: frames - 1], spec.fps),
                    expected_video_frames=frames - 1,
                    trim_to_frames=frames - 1,
                    procedural_scene=place.seed,
                    scene_c2w=start.c2w,
                    extra={
                        "world": spec.name,
                        "median_depth_m": depth,
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


def _collides(scene: Scene, c2w: Array, centres: Array) -> npt.NDArray[np.bool_]:
    """Whether camera centres [n, 3] relative to a pose are too near to a surface."""
    return clearance(scene, centres @ c2w[:3, :3].T + c2w[:3, 3]) < MARGIN


def prompt(scene: Scene) -> str:
    """The variants that a scene shows, or a sentence about one that never varies."""
    if scene.surfaces:
        return prompt_of(scene.surfaces, scene.appearance)
    blocks = len(scene.lower) - 1
    count = {4: "four", 5: "five"}.get(blocks, str(blocks))
    if scene.open_sky:
        return f"A courtyard with {count} painted blocks, patterned walls and an open sky."
    return f"A room with {count} painted blocks, patterned walls, floor and ceiling."
