"""Intrinsics from rays, with known cameras and a stand-in for Pi3X."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from sana_wm_gym.envs.start import default_options, start_choice, with_defaults
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.released.intrinsics import (
    FieldOfViewError,
    RayIntrinsics,
    field_of_view,
    focal_lengths,
    load_pi3x,
    network_size,
)

SPEC = ProceduralWorld((48, 64)).spec


def pinhole(rows: int, columns: int, fx: float, fy: float) -> np.ndarray:
    """Unit rays through the middles of a grid's cells."""
    v, u = np.mgrid[:rows, :columns] + 0.5
    rays = np.stack([(u - columns / 2) / fx, (v - rows / 2) / fy, np.ones_like(u)], axis=-1)
    return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))


@given(st.integers(2, 40), st.integers(2, 40), st.floats(1, 500), st.floats(1, 500))
def test_focal_lengths_of_a_pinhole_camera(rows: int, columns: int, fx: float, fy: float) -> None:
    rays = pinhole(rows, columns, fx, fy)
    assert focal_lengths(rays) == pytest.approx((fx, fy))
    rays[0, 0], rays[-1, -1] = np.nan, (0.3, 0.2, -1)
    if rows > 3 and columns > 3:
        assert focal_lengths(rays) == pytest.approx((fx, fy))


def camera_of(horizontal_deg: float, vertical_deg: float) -> RayIntrinsics:
    def rays(image: np.ndarray) -> np.ndarray:
        _, rows, columns = image.shape
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        halves = np.tan(np.radians([horizontal_deg, vertical_deg]) / 2)
        return pinhole(rows, columns, columns / 2 / halves[0], rows / 2 / halves[1])

    return RayIntrinsics("drawn@1", rays)


PHOTO = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)


@settings(max_examples=25)
@given(st.floats(25.5, 119.5), st.floats(25.5, 119.5))
def test_intrinsics_are_in_pixels_of_the_picture(wide: float, high: float) -> None:
    fx, fy, cx, cy = camera_of(wide, high)(PHOTO)
    assert (cx, cy) == (80, 45)
    assert (field_of_view(fx, 160), field_of_view(fy, 90)) == pytest.approx((wide, high))


@pytest.mark.parametrize("angles", [(24.9, 40), (60, 120.1), (140, 100), (60, 25)])
def test_a_field_of_view_that_no_camera_has(angles: tuple[float, float]) -> None:
    with pytest.raises(FieldOfViewError, match="between 25 and 120; give intrinsics") as caught:
        camera_of(*angles)(PHOTO)
    assert caught.value.degrees == pytest.approx(angles)


def test_no_answer_is_no_field_of_view() -> None:
    assert np.isnan(focal_lengths(np.full((4, 4, 3), np.nan))).all()
    assert np.isnan(field_of_view(np.nan, 4)) and np.isnan(field_of_view(-1.0, 4))

    def blind(image: np.ndarray) -> np.ndarray:
        return np.full((*image.shape[1:], 3), np.nan)

    with pytest.raises(FieldOfViewError, match="nan x nan"):
        RayIntrinsics("blind", blind)(PHOTO)
    with pytest.raises(ValueError, match=r"rays \(3,\) by short"):
        RayIntrinsics("short", lambda image: np.ones(3))(PHOTO)
    with pytest.raises(ValueError, match=r"float64 \(90, 160, 3\); expected uint8"):
        camera_of(60, 40)(PHOTO.astype(float))  # type: ignore[arg-type]


@given(st.integers(16, 3000), st.integers(16, 3000))
def test_the_network_gets_whole_patches(height: int, width: int) -> None:
    rows, columns = network_size(height, width)
    assert rows % 14 == columns % 14 == 0 and min(rows, columns) >= 14
    if 0.25 < height / width < 4:
        assert rows * columns <= 255_000
        assert rows / columns == pytest.approx(height / width, rel=0.12)


def test_where_intrinsics_came_from_is_kept() -> None:
    """Given, estimated from the whole picture, or assumed for the cropped one."""

    def chosen(lens: Any, options: dict[str, Any] | None = None) -> Any:
        defaults = default_options(PHOTO, lens, None, SPEC)
        start = start_choice(with_defaults(options, defaults), SPEC).given
        assert start is not None
        return start.intrinsics_from, start.intrinsics

    estimate = camera_of(70, 50)
    assert chosen(None) == ("assumed", SPEC.intrinsics)
    assert chosen(estimate(PHOTO)) == ("given", chosen(estimate)[1])
    source, (fx, fy, cx, cy) = chosen(estimate)
    # 90 x 160 shrinks by 48 / 90 to 48 x 85, of which 64 columns stay.
    assert source == "drawn@1" and (cx, cy) == pytest.approx((32, 24), abs=0.6)
    assert fy == pytest.approx(24 / np.tan(np.radians(25))) and 25 < field_of_view(fx, 64) < 70
    assert chosen(estimate, {"intrinsics": [50, 51, 32, 24]}) == ("given", (50, 51, 32, 24))
    other = np.zeros((48, 64, 3), np.uint8)
    assert chosen(estimate, {"image": other})[0] == "assumed"
    with pytest.raises(ValueError, match="intrinsics_from is a int"):
        chosen(estimate, {"intrinsics_from": 3})
    with pytest.raises(ValueError, match="describe an image"):
        default_options(None, estimate, None, SPEC)


@pytest.fixture
def pi3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a network whose rays always span 60 x 45 degrees."""

    class Pi3X(nn.Module):
        def __init__(self, use_multimodal: bool) -> None:
            super().__init__()
            assert not use_multimodal
            self.scale = nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            batch, count, _, rows, columns = images.shape
            assert (batch, count) == (1, 1) and not self.training
            fx, fy = columns / 2 / np.tan(np.radians(30)), rows / 2 / np.tan(np.radians(22.5))
            rays = torch.from_numpy(pinhole(rows, columns, fx, fy)).float()
            return {"rays": rays[None, None] * self.scale}

    module = ModuleType("pi3.models.pi3x")
    module.Pi3X = Pi3X  # type: ignore[attr-defined]
    for name in ("pi3", "pi3.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "pi3.models.pi3x", module)


def test_pi3x_from_its_file(pi3: None, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"scale": torch.full((1,), 2.0), "depth_encoder.weight": torch.ones(1)}, file)
    estimate = load_pi3x(file, "cpu")
    assert estimate.name.startswith("pi3x@") and len(estimate.name) == 17
    fx, fy, _, _ = estimate(PHOTO)
    assert (field_of_view(fx, 160), field_of_view(fy, 90)) == pytest.approx((60, 45), abs=1e-3)
    save_file({"other": torch.ones(1)}, file)
    with pytest.raises(ValueError, match="lacks 1 tensors, first scale"):
        load_pi3x(file, "cpu")
    with pytest.raises(FileNotFoundError):
        load_pi3x(tmp_path / "none.safetensors", "cpu")


def test_no_pi3x(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pi3", None)
    with pytest.raises(ImportError, match=r"package pi3 .*CC BY-NC 4\.0.*; or give intrinsics"):
        load_pi3x(tmp_path / "model.safetensors")
