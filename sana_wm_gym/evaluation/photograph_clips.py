"""Videos made of photographs, whose camera is known exactly: photographs on planes, each frame a
homography per plane; with an object that moves, and compressed like a video found elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import av
import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import from_rotation_translation, rotation_x, rotation_y
from sana_wm_gym.evaluation.foreign_pictures import photographs
from sana_wm_gym.poses.protocol import Frames, Intrinsics

Array = npt.NDArray[np.float64]

FRAMES, FPS, CRF = 49, 16.0, 18
SIZES = {64: 64, 128: 128, 256: 256, 480: 272, 854: 480, 1280: 720}
"""Frame width -> height, pixels."""
NAMES = (
    "astronaut", "brick", "camera", "chelsea", "china", "coffee", "flower", "gravel",
    "motorcycle_left", "rocket",
)  # fmt: skip
"""Photographs that are used, without the formats' endings."""
TEXTURES = ("noise", "photograph", "stripes")
_PIXELS_PER_METRE = 200.0  # of a photograph on its plane
_FINE = 500  # width in pixels at which frames are drawn, at least; reduced by area
_FAR = 3.0  # metres to the plane and to the point that an orbit faces


def _pan(s: Array) -> tuple[Array, Array]:
    return np.zeros((len(s), 3)), 0.5 * s


def _dolly(s: Array) -> tuple[Array, Array]:
    return s[:, None] * [0.0, 0.0, 1.0], 0 * s


def _strafe(s: Array) -> tuple[Array, Array]:
    return s[:, None] * [0.8, 0.0, 0.0], 0 * s


def _orbit(s: Array) -> tuple[Array, Array]:
    angle = 0.4 * s
    return _FAR * np.stack([np.sin(angle), 0 * s, 1 - np.cos(angle)], axis=1), -angle


def _s_curve(s: Array) -> tuple[Array, Array]:
    sway = np.sin(2 * np.pi * s)
    return np.stack([0.25 * sway, 0 * s, 0.9 * s], axis=1), 0.15 * sway


PATHS: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "pan": _pan,
    "dolly": _dolly,
    "strafe": _strafe,
    "orbit": _orbit,
    "s_curve": _s_curve,
}
"""Path by name: time from 0 to 1 [n] -> centres in metres [n, 3], yaw in radians to the right."""
CLIPS = (
    ("pan", "pan"),
    *((scene, path) for scene in ("plane", "room") for path in PATHS if path != "pan"),
)
"""Scene and path of every clip: a panorama, one plane, a room in which two boards stand."""


@dataclass(frozen=True)
class _Plane:
    """A photograph [h, w, 3] on a plane, repeated as in mirrors.

    `centre` [3] in metres is where the photograph's centre is, `axes` [2, 3] its unit directions to
    the right and down, `half` half of its width and height in metres; all around if None.
    """

    photograph: Frames
    centre: Array
    axes: Array
    half: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class PhotographClip:
    """A video and its truth.

    Attributes:
        frames: uint8 [n, height, width, 3] RGB, even height and width.
        c2w: Camera-to-world poses [n, 4, 4], metres.
        intrinsics: (fx, fy, cx, cy) in pixels.
    """

    frames: Frames
    c2w: Array
    intrinsics: Intrinsics

    def with_disc(self, fraction: float, texture: str, seed: int) -> PhotographClip:
        """The clip with a disc that crosses the picture, and its texture with it.

        Args:
            fraction: Of the picture that it covers.
            texture: One of `TEXTURES`.
            seed: Of its texture and direction.
        """
        rng = np.random.default_rng([19, seed])
        frames, (height, width) = self.frames.copy(), self.frames.shape[1:3]
        skin, radius = _skin(texture, width, rng), np.sqrt(fraction * height * width / np.pi)
        angle = rng.uniform(0, 2 * np.pi)
        step = 0.3 * np.array([width, height]) * [np.cos(angle), np.sin(angle)]
        grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
        for frame, s in zip(frames, np.linspace(-1, 1, len(frames)), strict=True):
            local = (grid - [width / 2, height / 2] - s * step).astype(np.float32)
            inside = np.linalg.norm(local, axis=-1) < radius
            where = local + np.float32(width - 0.5)
            moved = cv2.remap(skin, where[..., 0], where[..., 1], cv2.INTER_LINEAR)
            frame[inside] = moved[inside]
        return replace(self, frames=frames)

    def compressed(self) -> PhotographClip:
        """What is left of the clip after H.264 at crf 18, 4:2:0."""
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", int(FPS), options={"crf": str(CRF)})
            stream.height, stream.width = self.frames.shape[1:3]
            stream.pix_fmt, stream.thread_count = "yuv420p", 1
            for frame in self.frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            container.mux(stream.encode())
        file.seek(0)
        with av.open(file, "r") as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        return replace(self, frames=np.stack(frames))


def photograph_clip(scene: str, path: str, width: int, seed: int) -> PhotographClip:
    """A clip of `CLIPS`, not compressed.

    Args:
        scene: `pan`, `plane` or `room`.
        path: Name of `PATHS`.
        width: Of the frames in pixels, of `SIZES`; 64 degrees across.
        seed: Chooses photographs, their places, and the slant of planes.

    Raises:
        ImportError: Neither scikit-image nor scikit-learn is installed.
    """
    rng = np.random.default_rng([18, seed])
    height = SIZES[width]
    focal = 0.5 * width / np.tan(np.deg2rad(32))
    intrinsics = (focal, focal, width / 2, height / 2)
    centres, yaw = PATHS[path](np.linspace(0, 1, FRAMES))
    lift = np.array([0, *(0.04 * rng.uniform(-1, 1, 2))])
    centres = centres + lift * centres.any(axis=1, keepdims=True)
    turns = np.stack([rotation_y(angle) for angle in yaw])
    c2w = from_rotation_translation(turns, centres)
    planes = _planes(scene, rng)
    factor = -(-_FINE // width)
    drawn = [_draw(planes, pose, intrinsics, (height, width), factor) for pose in c2w]
    return PhotographClip(np.stack(drawn), c2w, intrinsics)


def _planes(scene: str, rng: np.random.Generator) -> list[_Plane]:
    """Planes from back to front."""
    found = photographs()
    if not found:
        raise ImportError("photographs come with scikit-image and scikit-learn, none is installed")
    names = [name for name in rng.permutation(NAMES) if name in found]

    def plane(
        centre: Sequence[float], turn: Array, half: tuple[float, float] | None = None
    ) -> _Plane:
        photograph = found[names[0]]
        names.append(names.pop(0))
        return _Plane(photograph, np.asarray(centre, float), turn[:, :2].T, half)

    side, up = np.pi / 2, np.pi / 2
    if scene != "room":
        slant = rotation_y(0.35 * rng.uniform(-1, 1)) @ rotation_x(0.2 * rng.uniform(-1, 1))
        return [plane([*rng.uniform(-1, 1, 2), _FAR], slant)]
    x, y, z = rng.uniform([1.8, 1.1, 3.8], [2.4, 1.4, 4.6])
    walls = [
        plane([0, 0, z], np.eye(3), (x, y)),
        plane([-x, 0, z / 2], rotation_y(-side), (z, y)),
        plane([x, 0, z / 2], rotation_y(side), (z, y)),
        plane([0, -y, z / 2], rotation_x(up), (x, z)),
        plane([0, y, z / 2], rotation_x(-up), (x, z)),
    ]
    boards = [
        plane([-0.7, 0.1, 2.6], rotation_y(0.3 * rng.uniform(-1, 1)), (0.4, 0.5)),
        plane([0.6, -0.1, 2.0], rotation_y(0.3 * rng.uniform(-1, 1)), (0.25, 0.35)),
    ]
    return [*walls, *boards]


def _draw(
    planes: list[_Plane], pose: Array, intrinsics: Intrinsics, size: tuple[int, int], factor: int
) -> Frames:
    """One frame of `size` (height, width), drawn `factor` times as large and reduced by area."""
    fx, fy, cx, cy = intrinsics
    height, width = size
    x = (((np.arange(width * factor) + 0.5) / factor - cx) / fx).astype(np.float32)
    y = (((np.arange(height * factor) + 0.5) / factor - cy) / fy).astype(np.float32)[:, None]
    canvas = np.zeros((height * factor, width * factor, 3), np.uint8)
    for plane in planes:
        # The ray p = c + t R (x, y, 1) meets the plane at a u + b v + centre: three affine
        # functions of the pixel, whose ratios are u, v and 1 / t.
        frame = np.column_stack([*plane.axes, pose[:3, 3] - plane.centre])
        across, down, over = (np.linalg.inv(frame) @ pose[:3, :3]).astype(np.float32)
        depth = -(over[0] * x + over[1] * y + over[2])
        depth[np.abs(depth) < 1e-4] = -1e-4
        u, v = ((row[0] * x + row[1] * y + row[2]) / depth for row in (across, down))
        seen = depth > 0
        if plane.half is not None:
            seen &= (np.abs(u) < plane.half[0]) & (np.abs(v) < plane.half[1])
        if not seen.any():
            continue
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        h, w = plane.photograph.shape[:2]
        across, down = (
            np.clip(value[part] * _PIXELS_PER_METRE + length / 2 - 0.5, -2e4, 2e4)
            for value, length in ((u, w), (v, h))
        )
        image = cv2.remap(
            plane.photograph, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        canvas[part][seen[part]] = image[seen[part]]
    return np.asarray(
        cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def _skin(texture: str, width: int, rng: np.random.Generator) -> Frames:
    """Texture [2 width, 2 width, 3] of a disc on frames of a width in pixels."""
    side = 2 * width
    if texture == "noise":
        grains = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
        soft = cv2.GaussianBlur(grains, (0, 0), max(width / 64, 1.0)).astype(float)
        low, high = soft.min(), soft.max()
        return np.asarray(255 * (soft - low) / (high - low), dtype=np.uint8)
    if texture == "photograph":
        found = photographs()
        name = str(rng.choice([name for name in NAMES if name in found]))
        return np.asarray(cv2.resize(found[name], (side, side), interpolation=cv2.INTER_AREA))
    wave = np.sin(np.arange(side) * 2 * np.pi / (width / 8))
    stripes = np.asarray(127 + 60 * (wave[:, None] + wave), dtype=np.uint8)
    return stripes[..., None].repeat(3, axis=2)
