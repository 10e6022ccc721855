"""PSNR, box SSIM and matching by time against golden numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sana_wm_gym.metrics import match_frames, psnr, psnr_from_mse, ssim
from sana_wm_gym.metrics.matching import video_index

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "metrics"
EXPECTED = json.loads((GOLDEN / "frame_metrics.json").read_text())
IMAGES = dict(np.load(GOLDEN / "frame_metrics.npz"))


@pytest.mark.parametrize("case", sorted(EXPECTED["pairs"]))
def test_golden_images(case: str) -> None:
    a, b = IMAGES[f"{case}__a"], IMAGES[f"{case}__b"]
    expected, tolerance = EXPECTED["pairs"][case], EXPECTED["tolerance"]
    assert psnr(a, b) == pytest.approx(expected["psnr_db"], abs=tolerance["psnr"])
    assert ssim(a, b) == pytest.approx(expected["ssim_uniform11"], abs=tolerance["ssim"])


@pytest.mark.parametrize("row", EXPECTED["fps_remap"], ids=lambda row: str(list(row.values())))
def test_golden_frame_rates(row: dict[str, float]) -> None:
    index = video_index(
        int(row["ref_index"]), row["ref_fps"], row["video_fps"], int(row["n_video_frames"])
    )
    assert index == row["index"]


def test_a_short_video_is_refused_unless_truncated() -> None:
    with pytest.raises(ValueError, match="truncate=True"):
        match_frames(961, 16, 960, 16)
    match = match_frames(961, 16, 960, 16, truncate=True)
    np.testing.assert_array_equal(match.reference, np.arange(960))
    np.testing.assert_array_equal(match.video, np.arange(960))


def test_images_must_be_uint8_of_one_shape() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="uint8"):
        psnr(image.astype(np.float64), image)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one shape"):
        ssim(image, image[:8])
    with pytest.raises(ValueError, match="channels"):
        ssim(image[..., 0], image[..., 0])


def test_psnr_averages_squared_errors_before_the_logarithm() -> None:
    rng = np.random.default_rng(0)
    made, true = rng.integers(256, size=(2, 3, 4, 5, 6, 3), dtype=np.uint8)
    squared = (made.astype(float) - true) ** 2
    per_frame = psnr(made, true, axes=(0, 2, 3, 4))
    np.testing.assert_allclose(
        per_frame, 10 * np.log10(255**2 / squared.mean(axis=(0, 2, 3, 4))), rtol=1e-12
    )
    assert per_frame.shape == (4,)
    assert psnr(made, true) == pytest.approx(float(psnr_from_mse(squared.mean())), rel=1e-12)
    np.testing.assert_array_equal(psnr(true, true, axes=(1, 2, 3)), np.full((3, 3), 100.0))
