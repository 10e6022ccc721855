"""Any picture as a viewer shows it."""

from __future__ import annotations

import os
import resource

import numpy as np
import pytest
import torch
from PIL import Image

from sana_wm_gym.camera.picture import rgb_picture

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def test_values_of_every_kind_are_the_same_picture():
    for picture in (
        RGB,
        RGB.transpose(2, 0, 1),
        RGB / 255,
        RGB.astype(np.uint16) * 257,
        Image.fromarray(RGB),
        torch.from_numpy(RGB),
        torch.from_numpy(RGB).permute(2, 0, 1),
        (torch.from_numpy(RGB) / 255).requires_grad_(),
        np.concatenate([RGB, np.full((12, 20, 1), 255, np.uint8)], axis=2),
    ):
        found = rgb_picture(picture)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, RGB)
    for picture in (GREY, GREY[None], GREY[..., None]):
        np.testing.assert_array_equal(rgb_picture(picture), GREY[..., None].repeat(3, 2))


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (RGB.astype(np.float64), r"float64 .* outside \[0, 1\]"),
        (RGB.astype(np.int64), "int64"),
        (RGB > 9, "bool"),
        (RGB[None], r"\(1, 12, 20, 3\)"),
        (RGB[:0], r"\(0, 20, 3\)"),
        (b"\x89PNG", "bytes"),
        (3, "int"),
        (Image.new("F", (4, 4)), "mode F"),
        (Image.new("I", (4, 4)), "mode I"),
        (Image.new("LAB", (4, 4)), "mode LAB"),
    ],
)
def test_what_has_no_one_meaning_is_refused(picture, words):
    with pytest.raises(ValueError, match=words):
        rgb_picture(picture)


def test_sixteen_bits_are_scaled(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    for name in ("a.png", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_array_equal(rgb_picture(tmp_path / name)[..., 1], GREY)


def test_files_are_what_a_viewer_shows(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).quantize(256).save(path)
    assert np.abs(rgb_picture(path).astype(int) - RGB).mean() < 20
    clear = Image.fromarray(RGB)
    clear.putalpha(0)  # the colours below are not shown
    clear.save(path)
    assert (rgb_picture(path) == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    Image.fromarray(RGB).save(path, exif=exif)
    np.testing.assert_array_equal(rgb_picture(path), np.rot90(RGB, -1))
    smooth = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(rgb_picture(tmp_path / "a.jpg").astype(int) - smooth).max() < 8


def test_a_colour_profile_is_applied(tmp_path):
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    plain = Image.fromarray(RGB)
    plain.save(tmp_path / "a.png", icc_profile=lab.tobytes())
    np.testing.assert_array_equal(rgb_picture(tmp_path / "a.png"), RGB)
    plain.save(tmp_path / "b.png", icc_profile=b"damaged")
    np.testing.assert_array_equal(rgb_picture(tmp_path / "b.png"), RGB)


def test_file_errors_name_the_file_in_one_line(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    Image.new("1", (14000, 14000)).save(tmp_path / "huge.png")
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    (tmp_path / "drawing.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    )
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("cut.jpg", "huge.png", "large.png", "drawing.eps", "text.png", "folder.png",
                 "pipe.png"):  # fmt: skip
        with pytest.raises(ValueError, match=name) as failure:
            rgb_picture(tmp_path / name)
        assert "\n" not in str(failure.value)
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        rgb_picture(tmp_path / "absent.png")


def test_a_large_file_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (13000, 13000)).save(tmp_path / "unfolds.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="13000 x 13000"):
        rgb_picture(tmp_path / "unfolds.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
