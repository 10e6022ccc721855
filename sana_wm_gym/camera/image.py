"""From a user's photo and calibration to the world's first frame and intrinsics."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from sana_wm_gym.camera.trajectory import check_intrinsics
from sana_wm_gym.checks import require_integer

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Crop:
    """Aspect-preserving resize followed by a centre crop; sizes in pixels.

    Attributes:
        source: (height, width) of the given image.
        resized: (height, width) after the resize; covers `target`.
        offset: (top, left) of the crop in the resized image.
        target: (height, width) of the result.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    target: tuple[int, int]


def centre_crop(source: tuple[int, int], target: tuple[int, int]) -> Crop:
    """The resize and crop that take a `source` image to `target`, both (height, width).

    Raises:
        ValueError: A side is shorter than one pixel.

    Source: the first-frame preparation of SANA-WM's released inference script.
    """
    for side in (*source, *target):
        require_integer("side of an image", side, 1)
    scale = max(t / s for t, s in zip(target, source, strict=True))
    height, width = (max(t, round(s * scale)) for t, s in zip(target, source, strict=True))
    offset = ((height - target[0]) // 2, (width - target[1]) // 2)
    return Crop(source, (height, width), offset, target)


def crop_image(image: npt.NDArray[np.uint8], crop: Crop) -> npt.NDArray[np.uint8]:
    """Resize with Lanczos filtering and crop: uint8 [H, W, 3] to [*crop.target, 3].

    Raises:
        ValueError: The image is not uint8 RGB of the size the crop was made for.
    """
    if image.dtype != np.uint8 or image.shape != (*crop.source, 3):
        raise ValueError(
            f"image is {image.dtype} {image.shape}, expected uint8 {(*crop.source, 3)}"
        )
    height, width = crop.resized
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    top, left = crop.offset
    return np.asarray(resized)[top : top + crop.target[0], left : left + crop.target[1]].copy()


def crop_intrinsics(intrinsics: npt.NDArray[np.floating], crop: Crop) -> Array:
    """(fx, fy, cx, cy) [..., 4] of the cropped image from those of the source image.

    Pixel coordinates count from pixel corners: no half-pixel terms.
    """
    y, x = (r / s for r, s in zip(crop.resized, crop.source, strict=True))
    top, left = crop.offset
    return np.asarray(intrinsics * np.array([x, y, x, y]) - np.array([0.0, 0.0, left, top]))


def intrinsics_per_frame(values: npt.ArrayLike, frames: int) -> Array:
    """Intrinsics of every frame, float64 [frames, 4], from the usual array layouts.

    Args:
        values: (4,) as fx, fy, cx, cy; a (3, 3) matrix; or either per frame, (F, 4) or (F, 3, 3).
            One entry is repeated, a longer sequence is cut, a shorter one is stretched linearly
            over the clip.
        frames: Number of video frames, >= 1.

    Raises:
        ValueError: Another shape, values that are not finite, or a focal length <= 0.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape[-2:] == (3, 3) and array.ndim in (2, 3):
        array = np.stack(
            [array[..., 0, 0], array[..., 1, 1], array[..., 0, 2], array[..., 1, 2]], axis=-1
        )
    if array.ndim not in (1, 2) or array.shape[-1] != 4 or array.size == 0:
        raise ValueError(
            f"intrinsics have shape {np.shape(values)}, expected (4,), (3, 3), (F, 4) or (F, 3, 3)"
        )
    require_integer("frames", frames, 1)
    array = np.atleast_2d(array)
    check_intrinsics(array)
    if len(array) >= frames:
        return array[:frames].copy()
    given, requested = np.linspace(0.0, 1.0, len(array)), np.linspace(0.0, 1.0, frames)
    return np.stack([np.interp(requested, given, column) for column in array.T], axis=-1)


def check_lens(intrinsics: Array, size: tuple[int, int], name: str = "intrinsics") -> None:
    """Check that intrinsics can be those of a picture.

    A principal point further than a quarter of the picture from its centre, and a field of view
    below 20 degrees, are rare: there is a warning.

    Args:
        intrinsics: (fx, fy, cx, cy) in pixels, float64 [4], or [n, 4].
        size: Height and width of the picture.
        name: What errors call them.

    Raises:
        ValueError: Values that are not finite or a focal length <= 0; a principal point outside of
            the picture; a field of view above 140 degrees, as normalised intrinsics have; or
            height and width are exchanged.
    """
    rows = np.atleast_2d(np.asarray(intrinsics, dtype=np.float64))
    check_intrinsics(rows)
    sides, (height, width) = np.array([size[1], size[0]]), size
    centres = rows[:, 2:]
    angles = np.degrees(2 * np.arctan(sides / (2 * rows[:, :2]))).max(axis=1)
    away = np.abs(centres - sides / 2)
    exchanged = (np.abs(centres - sides[::-1] / 2) < 1).all(axis=1) & (abs(width - height) > 4)
    faults = {
        "the field of view is {angle:.0f} degrees, expected 20 to 140; are they normalised?": (
            angles > 140
        ),
        "the principal point is outside of the picture": ((centres < 0) | (centres > sides)).any(
            axis=1
        ),
        "the principal point is that of a picture with height and width exchanged": exchanged,
    }
    doubts = {
        "the principal point is far from the centre; are they of another resolution?": (
            away >= sides / 4
        ).any(axis=1),
        "the field of view is {angle:.0f} degrees, 20 to 140 are usual": angles < 20,
    }
    for fault, found in {**faults, **doubts}.items():
        if found.any():
            frame = int(np.flatnonzero(found)[0])
            given = f"{name} are {np.round(rows[frame], 3).tolist()} for {width} x {height} pixels"
            message = f"{given}: {fault.format(angle=angles[frame])}"
            if fault in faults:
                raise ValueError(message)
            warnings.warn(message, stacklevel=2)
            return


def snap_num_frames(frames: int, stride: int, available: int | None = None) -> int:
    """The clip length `stride * k + 1` nearest to `frames`; the longer of two equally near.

    Args:
        frames: Requested number of video frames.
        stride: 8 for whole latent frames, 24 for whole streaming chunks.
        available: Most frames there are poses for; the result never exceeds it.

    Raises:
        ValueError: `stride` or `available` is below 1.
    """
    require_integer("stride", stride, 1)
    if available is not None:
        require_integer("available", available, 1)
    requested = max(frames if available is None else min(frames, available), 1)
    shorter = requested - (requested - 1) % stride
    longer = shorter + stride
    fits = available is None or longer <= available
    return longer if fits and longer - requested <= requested - shorter else shorter
