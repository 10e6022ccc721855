"""How alike two images are: PSNR and box-window SSIM.

Both take uint8 RGB. SSIM here uses an 11x11 box window, as the SANA-WM benchmark does; the
Gaussian-window SSIM of other libraries differs in the second decimal and must not be mixed in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

IDENTICAL_DB = 100.0  # reported instead of infinity
_IDENTICAL_MSE = 1e-10
_WINDOW = 11
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Image = npt.NDArray[np.uint8]


def psnr(image: Image, reference: Image) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, peak 255.

    Args:
        image: uint8, any shape, for example [height, width, 3] or [frames, height, width, 3].
        reference: Same shape.

    Returns:
        dB; 100 where the mean squared error is below 1e-10.

    Raises:
        ValueError: Not uint8, or shapes differ.
    """
    a, b = _as_float_pair(image, reference)
    mse = float(np.mean((a - b) ** 2))
    return IDENTICAL_DB if mse < _IDENTICAL_MSE else float(10 * np.log10(255.0**2 / mse))


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
    a, b = _as_float_pair(image, reference)
    if a.ndim != 3:
        raise ValueError(f"expected [height, width, channels], given shape {a.shape}")

    def local_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        # The edge pixel itself is repeated in the mirror image.
        return np.asarray(uniform_filter(values, size=(_WINDOW, _WINDOW, 1), mode="reflect"))

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a**2
    var_b = local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (var_a + var_b + _C2)
    return float(np.mean(luminance * structure))


def _as_float_pair(
    image: Image, reference: Image
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a, b = np.asarray(image), np.asarray(reference)
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.shape != b.shape or a.size == 0:
        raise ValueError(
            f"expected two uint8 images of one shape, "
            f"given {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        )
    return a.astype(np.float64), b.astype(np.float64)
