"""A world rolled along a scene's commanded path, chunk by chunk, into an mp4."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.image import centre_crop, crop_image, crop_intrinsics
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.evaluation.bench.layout import BenchScene
from sana_wm_gym.evaluation.control.meter import Cost, Meter
from sana_wm_gym.evaluation.control.videos import SAME_RATE
from sana_wm_gym.video import Frames, VideoError, VideoWriter
from sana_wm_gym.world.rollout import rollout
from sana_wm_gym.world.world_model import CHUNK_FRAMES, Start, WorldModel, as_arrays

Array = npt.NDArray[np.float64]


def scene_seed(seed: int, split: str, scene: str) -> int:
    """Source of a scene's noise; does not depend on which other scenes are made, or when."""
    name = zlib.crc32(f"{split}/{scene}".encode())
    return int(np.random.SeedSequence([seed, name]).generate_state(1)[0])


def fitted_intrinsics(scene: BenchScene, size: tuple[int, int]) -> Array:
    """Intrinsics [n, 4] in pixels of a video (height, width) whose frames are the scene's first
    frame resized and centre-cropped, as SANA-WM prepares it."""
    return crop_intrinsics(scene.intrinsics, centre_crop(scene.image_size, size))


def whole_chunks(values: Array) -> Array:
    """Poses or intrinsics of the first frame and whole chunks; the last entry is repeated."""
    return np.concatenate([values, np.repeat(values[-1:], -(len(values) - 1) % CHUNK_FRAMES, 0)])


def generate(world: WorldModel[Any], scene: BenchScene, seed: int, path: Path) -> Cost:
    """Make a scene's video: as many frames as the bench expects, the given one first.

    Args:
        world: Any world.
        scene: First frame and path.
        seed: Source of the world's noise.
        path: mp4 to write; appears when it is complete.

    Raises:
        VideoError: The bench counts poses at another rate than the world makes frames, or the
            world's latents stopped being finite.
        BenchDataError: The first frame cannot be read.
        ValueError: The scene does not fit the world.
    """
    spec = world.spec
    if abs(scene.fps - spec.fps) >= SAME_RATE:
        message = f"scene {scene.id} has {scene.fps:g} poses per second, {spec.name} {spec.fps:g}"
        raise VideoError("wrong_fps", None, message)
    crop = centre_crop(scene.image_size, (spec.height, spec.width))
    intrinsics = whole_chunks(fitted_intrinsics(scene, crop.target))
    fx, fy, cx, cy = intrinsics[0].tolist()
    start = Start(
        image=crop_image(scene.image(), crop),
        intrinsics=(fx, fy, cx, cy),
        prompt=scene.prompt,
        scene=scene.procedural_scene,
        scene_c2w=scene.scene_c2w,
    )
    camera = CameraTrajectory(whole_chunks(scene.c2w), intrinsics, spec.width, spec.height)
    meter = Meter()
    wanted = scene.expected_video_frames
    # Poses and PSNR are read from the file again.
    with VideoWriter(path, spec.fps, near_lossless=True) as video:
        for frames in _frames(world, start, camera, seed, wanted, meter):
            video.add(frames)
    return meter.cost(len(camera) - 1)


def _frames(
    world: WorldModel[Any],
    start: Start,
    camera: CameraTrajectory,
    seed: int,
    wanted: int,
    meter: Meter,
) -> Iterator[Frames]:
    """Chunks of frames, `wanted` in all."""
    done, latents = 0, world.spec.latent_shape is not None
    meter.resume()
    for states in rollout(world, [start], [seed], [camera]):
        [frames] = as_arrays(world.decode(states))
        meter.pause()
        if latents and not np.isfinite(as_arrays(world.latents(states))[0]).all():
            message = f"latents are not finite from frame {done} on"
            raise VideoError("not_finite", None, message)
        yield frames[: max(wanted - done, 0)] if done + len(frames) > wanted else frames
        done += len(frames)
        meter.resume()
    meter.pause()
