"""How alike two images or videos are: PSNR and box-window SSIM, on uint8 RGB.

SSIM here uses an 11x11 box window, as the SANA-WM benchmark does; the Gaussian-window SSIM of other
libraries differs in the second decimal and must not be mixed in.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

IDENTICAL_DB = 100.0
"""PSNR of equal images, in place of infinity."""

_IDENTICAL_MSE = 1e-10
_WINDOW = 11
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Image = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]
Axes = tuple[int, ...]


@overload
def psnr(image: Image, reference: Image, axes: None = None) -> float: ...
@overload
def psnr(image: Image, reference: Image, axes: Axes) -> Array: ...
def psnr(image: Image, reference: Image, axes: Axes | None = None) -> float | Array:
    """Peak signal-to-noise ratio in dB, peak 255.

    The squared error is averaged first, over everything or over the given axes, and the logarithm
    is taken of the average. Of videos [b, n, H, W, 3], axes (0, 2, 3, 4) give one number per frame
    over the batch; (2, 3, 4) one per frame of each video.

    Args:
        image: uint8, any shape.
        reference: uint8 of the same shape.
        axes: Averaged before the logarithm; None for all.

    Returns:
        dB: a float, or an array over the remaining axes; 100 where the mean squared error is below
        1e-10.

    Raises:
        ValueError: Not uint8, no pixels, or shapes differ.
    """
    ratio = psnr_from_mse(mean_squared_error(image, reference, axes))
    return float(ratio) if axes is None else ratio


def psnr_from_mse(mse: npt.ArrayLike) -> Array:
    """PSNR in dB of mean squared errors in grey levels of 0 to 255, any shape; 100 below 1e-10."""
    error = np.asarray(mse, dtype=np.float64)
    ratio = 10 * np.log10(255.0**2 / np.maximum(error, _IDENTICAL_MSE))
    return np.where(error < _IDENTICAL_MSE, IDENTICAL_DB, ratio)


def mean_squared_error(image: Image, reference: Image, axes: Axes | None = None) -> Array:
    """Mean squared error in grey levels, over everything or over the given axes; see `psnr`."""
    a, b = _checked_pair(image, reference)
    # Squares of byte differences are exact in float32, and so are their sums in float64.
    difference = np.subtract(a, b, dtype=np.float32)
    np.square(difference, out=difference)
    return np.asarray(difference.mean(axis=axes, dtype=np.float64))


def ssim(image: Image, reference: Image) -> float:
    """Structural similarity, -1 to 1: 11x11 box window, mirrored edges, mean over the map, then
    over channels.

    Args:
        image: uint8 [height, width, channels].
        reference: Same shape.

    Raises:
        ValueError: Not uint8, shapes differ, or not [height, width, channels].

    Source: Wang et al., IEEE TIP 13(4), 2004, eq. 13, with a box in place of the Gaussian.
    """
    a, b = (pixels.astype(np.float64) for pixels in _checked_pair(image, reference))
    if a.ndim != 3:
        raise ValueError(f"expected [height, width, channels], given shape {a.shape}")

    def local_mean(values: Array) -> Array:
        # The edge pixel itself is repeated in the mirror image.
        return np.asarray(uniform_filter(values, size=(_WINDOW, _WINDOW, 1), mode="reflect"))

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a**2
    var_b = local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (var_a + var_b + _C2)
    return float(np.mean(luminance * structure))


def _checked_pair(image: Image, reference: Image) -> tuple[Image, Image]:
    a, b = np.asarray(image), np.asarray(reference)
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.shape != b.shape or a.size == 0:
        raise ValueError(
            f"expected two uint8 images of one shape, "
            f"given {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        )
    return a, b
