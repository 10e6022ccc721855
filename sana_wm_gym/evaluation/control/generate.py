"""A world rolled along a scene's commanded path, chunk by chunk, into an mp4."""

from __future__ import annotations

import hashlib
import sys
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sana_wm_gym import memory
from sana_wm_gym.camera.image import centre_crop, crop_image
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.evaluation.bench.layout import BenchScene
from sana_wm_gym.evaluation.control.score_video import SAME_RATE, fitted_intrinsics
from sana_wm_gym.files import sha256
from sana_wm_gym.video import VideoError, VideoWriter
from sana_wm_gym.weights.hub import SCHEME, fetch_world
from sana_wm_gym.world.catalogue import (
    CLIP_GENERATORS,
    RELEASED_WORLDS,
    WORLDS,
    load_clip_generator,
    load_world,
)
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.released.replay import ReplayWorld
from sana_wm_gym.world.rollout import rollout
from sana_wm_gym.world.world_model import Start, WorldModel, as_arrays

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OpenedWorld:
    """A world (`renderer` for exact frames, `learned` for a network, `code` for a user's own) and
    the file or folder of a network's weights."""

    world: WorldModel[Any]
    kind: Literal["renderer", "learned", "code"]
    weights: Path | None

    def for_scene(self, scene: BenchScene) -> WorldModel[Any]:
        """The world for one scene: a renderer makes frames as large as the scene's first, a
        generator of whole clips plans the scene's path; any other world is as it is."""
        if isinstance(self.world, ProceduralWorld):
            return replace(self.world, size=scene.image_size)
        if isinstance(self.world, ReplayWorld):
            chunk = self.world.spec.frames_per_chunk
            return replace(self.world, plan=whole_chunks(scene.c2w, chunk))
        return self.world


def open_world(name: str) -> OpenedWorld:
    """A world as `load_world` names it, or a generator of whole clips of the catalogue.

    Raises:
        ValueError: There is no world of this name, it has no camera, its weights are damaged, or
            it is a network of the catalogue without a file of weights.
        FileNotFoundError: There is no such file, or a released world is not on this machine.
    """
    if name in CLIP_GENERATORS:
        anywhere = np.repeat(np.eye(4)[None], CHUNK_FRAMES + 1, axis=0)
        replay = load_clip_generator(name).replay(anywhere)
        return OpenedWorld(replay, "learned", released_weights(name))
    world = load_world(name)
    world.spec.require_camera("the camera-control benchmark")
    if isinstance(world, ProceduralWorld):
        return OpenedWorld(world, "renderer", None)
    if name.endswith(".safetensors"):
        return OpenedWorld(world, "learned", Path(name))
    if name.startswith(SCHEME):
        return OpenedWorld(world, "learned", fetch_world(name))
    if name in RELEASED_WORLDS:
        return OpenedWorld(world, "learned", released_weights(name))
    return OpenedWorld(world, *(("learned", _embedded(name)) if name in WORLDS else ("code", None)))


def released_weights(name: str) -> Path:
    """Where the weights of a released world's generator are on this machine; `FileNotFoundError`
    has the command that gets them."""
    from sana_wm_gym.world.released.files import BIDIRECTIONAL, CHUNK_CAUSAL, STREAMING

    for layout in (BIDIRECTIONAL, CHUNK_CAUSAL, STREAMING):
        if name.startswith(layout.release):
            return layout.here().generator
    raise FileNotFoundError(f"no release is called {name!r}")


def _embedded(name: str) -> Path:
    from sana_wm_gym.weights.world_file import EMBEDDED

    # Worlds of one file may differ in how they compute.
    for stem in (name, name.split("-")[0]):
        if (EMBEDDED / f"{stem}.safetensors").is_file():
            return EMBEDDED / f"{stem}.safetensors"
    raise ValueError(
        f"world {name!r} has no file of weights at {EMBEDDED}: without one its frames may be "
        "those of random weights, which are never presented as a result"
    )


def weights_digest(weights: Path) -> str:
    """Digest of a file of weights, or of all files in a folder of them with their names."""
    if weights.is_file():
        return sha256(weights)
    digest = hashlib.sha256()
    for path in sorted(path for path in weights.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(weights).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Cost:
    """What making one video took.

    Attributes:
        frames: Frames made; the given first one does not count.
        seconds: Wall-clock time inside the world, without writing the video file.
        frames_per_s: One over the other.
        peak_memory_mb: Largest resident size of the process after any chunk.
        peak_gpu_mb: Most memory of tensors on the CUDA device meanwhile; None without one.
        accelerator: Name of the CUDA device; None without one.
    """

    frames: int
    seconds: float
    frames_per_s: float
    peak_memory_mb: float
    peak_gpu_mb: float | None
    accelerator: str | None


def scene_seed(seed: int, split: str, scene: str) -> int:
    """Source of a scene's noise, whatever other scenes are made."""
    name = zlib.crc32(f"{split}/{scene}".encode())
    return int(np.random.SeedSequence([seed, name]).generate_state(1)[0])


def whole_chunks(values: Array, chunk: int) -> Array:
    """Poses or intrinsics of the first frame and whole chunks; the last entry is repeated."""
    return np.concatenate([values, np.repeat(values[-1:], -(len(values) - 1) % chunk, 0)])


def generate(world: WorldModel[Any], scene: BenchScene, seed: int, path: Path) -> Cost:
    """Make a scene's video, an mp4 at `path` that appears when it is complete: as many frames as
    the bench expects, the given one first. `seed` is the source of the world's noise.

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
    intrinsics = fitted_intrinsics(scene, spec.size)
    fx, fy, cx, cy = intrinsics[0].tolist()
    start = Start(
        image=crop_image(scene.image(), centre_crop(scene.image_size, spec.size)),
        intrinsics=(fx, fy, cx, cy),
        prompt=scene.prompt,
        scene=scene.procedural_scene,
        scene_c2w=scene.scene_c2w,
    )
    c2w, lens = (whole_chunks(values, spec.frames_per_chunk) for values in (scene.c2w, intrinsics))
    camera = CameraTrajectory(c2w, lens, spec.width, spec.height)
    torch = sys.modules.get("torch")  # a world has brought it along if it needs it
    cuda = torch.cuda if torch is not None and torch.cuda.is_available() else None
    if cuda is not None:
        cuda.reset_peak_memory_stats()
    steps, done, seconds, peak = rollout(world, [start], [seed], [camera]), 0, 0.0, 0
    # Poses and PSNR are read from the file again.
    with VideoWriter(path, spec.fps, near_lossless=True) as video:
        while True:
            began = time.perf_counter()
            states = next(steps, [])
            decoded = as_arrays(world.decode(states)) if states else []
            if cuda is not None:
                cuda.synchronize()
            seconds += time.perf_counter() - began
            peak = max(peak, memory.resident())
            if not states:
                break
            if spec.latent_shape and not np.isfinite(as_arrays(world.latents(states))[0]).all():
                message = f"latents are not finite from frame {done} on"
                raise VideoError("not_finite", None, message)
            video.add(decoded[0][: max(scene.expected_video_frames - done, 0)])
            done += len(decoded[0])
    return Cost(
        frames=done - 1,
        seconds=seconds,
        frames_per_s=(done - 1) / seconds,
        peak_memory_mb=peak / 1e6,
        peak_gpu_mb=None if cuda is None else cuda.max_memory_allocated() / 1e6,
        accelerator=None if cuda is None else cuda.get_device_name(),
    )
