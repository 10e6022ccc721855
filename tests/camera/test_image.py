"""First frame and intrinsics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sana_wm_gym.camera import (
    centre_crop,
    check_lens,
    crop_image,
    crop_intrinsics,
    intrinsics_per_frame,
    snap_num_frames,
)

Arrays = dict[str, npt.NDArray[Any]]
TARGET = (704, 1280)


def test_crops_match_the_release(facts: dict[str, Any], intrinsics_cases: Arrays) -> None:
    for case in facts["crops"]:
        name = case["name"]
        (width, height), target = case["src_size_wh"], tuple(case["target_hw"])
        crop = centre_crop((height, width), target)
        assert crop.resized == tuple(case["resized_wh"][::-1])
        assert crop.offset == tuple(case["crop_left_top"][::-1])
        if name == "image":
            ours = crop_image(intrinsics_cases["image_in"], crop).astype(int)
            assert np.abs(ours - intrinsics_cases["image_out_16x24"]).max() <= 1
        else:
            ours = crop_intrinsics(intrinsics_cases[f"{name}_in"], crop)
            assert np.allclose(ours, intrinsics_cases[f"{name}_out"], rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000))
def test_every_image_covers_the_target(height: int, width: int) -> None:
    crop = centre_crop((height, width), TARGET)
    for resized, offset, target in zip(crop.resized, crop.offset, TARGET, strict=True):
        assert resized >= target
        assert 0 <= (resized - target) - 2 * offset <= 1


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    crop = centre_crop((16, 24), (16, 24))
    assert (crop_image(image, crop) == image).all()
    given_intrinsics = np.array([20.0, 21.0, 12.0, 8.0])
    assert (crop_intrinsics(given_intrinsics, crop) == given_intrinsics).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((16, 25, 3), dtype=np.uint8),
        np.zeros((16, 24), dtype=np.uint8),
        np.zeros((16, 24, 3), dtype=np.float32),
    ],
)
def test_bad_images_are_refused(image: npt.NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(16, 24, 3\)"):
        crop_image(image, centre_crop((16, 24), (8, 8)))


def test_intrinsics_layouts_match_the_release(intrinsics_cases: Arrays) -> None:
    layouts = [name[:-3] for name in intrinsics_cases if name[:4] == "load" and name[-3:] == "_in"]
    assert len(layouts) == 6
    for name in layouts:
        ours = intrinsics_per_frame(intrinsics_cases[f"{name}_in"], frames=9)
        assert np.allclose(ours, intrinsics_cases[f"{name}_out_9frames"], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(3), r"shape \(3,\), expected \(4,\), \(3, 3\)"),
        (np.ones((2, 5, 4)), r"expected \(4,\)"),
        (np.ones((0, 4)), r"expected \(4,\)"),
        ([[1.0, 1.0, 0.0, 0.0], [1.0, math.nan, 0.0, 0.0]], "frame 1"),
        ([1.0, -1.0, 0.0, 0.0], "positive focal lengths"),
    ],
)
def test_bad_intrinsics_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        intrinsics_per_frame(values, frames=9)


def test_frame_counts_match_the_release(facts: dict[str, Any]) -> None:
    for case in facts["snap_num_frames"]:
        assert snap_num_frames(case["n"], case["stride"], case["upper_bound"]) == case["result"]


@settings(deadline=None)
@given(st.integers(0, 2000), st.sampled_from([8, 24]), st.integers(1, 1000))
def test_frame_counts_are_whole_and_available(frames: int, stride: int, available: int) -> None:
    result = snap_num_frames(frames, stride, available)
    assert result % stride == 1 and 1 <= result <= available
    assert abs(snap_num_frames(frames, stride) - max(frames, 1)) <= stride // 2


def test_bad_frame_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="stride is 0"):
        snap_num_frames(9, 0)
    with pytest.raises(ValueError, match="available is 0"):
        snap_num_frames(9, 8, 0)
    with pytest.raises(ValueError, match="side of an image is 0"):
        centre_crop((0, 5), TARGET)


@pytest.mark.parametrize(
    ("intrinsics", "words"),
    [
        ((0.8, 1.2, 0.5, 0.5), "180 degrees, .* normalised"),
        ((900, 900, 1300, 352), "outside of the picture"),
        ((900, 900, -1, 352), "outside of the picture"),
        ((900, 900, 352, 640), "exchanged"),
        ((200, 200, 640, 352), "145 degrees"),
        ((math.nan, 900, 640, 352), "expected finite"),
    ],
)
def test_intrinsics_that_cannot_be_the_pictures(intrinsics: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_lens(np.array(intrinsics), TARGET)


def test_intrinsics_that_are_rare_get_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    check_lens(np.array([[900.0, 900, 640, 352], [700, 700, 600, 400]]), TARGET)
    assert not recwarn
    with pytest.warns(UserWarning, match="another resolution"):
        check_lens(np.array([450.0, 450, 320, 176]), TARGET)
    with pytest.warns(UserWarning, match="20 to 140"):
        check_lens(np.array([9000.0, 9000, 640, 352]), TARGET)
