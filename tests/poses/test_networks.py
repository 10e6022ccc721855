"""Adapters to large networks, with small stand-ins for the networks."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sana_wm_gym.camera.se3 import invert, relative_to_first, rotation_y
from sana_wm_gym.poses import NetworkEstimator, load_pi3x, load_vggt
from sana_wm_gym.poses.networks import pi3x_size, vggt_size

FRAMES = np.zeros((3, 20, 30, 3), np.uint8)


def path() -> npt.NDArray[np.float64]:
    poses = np.tile(np.eye(4), (3, 1, 1))
    for index, pose in enumerate(poses):
        pose[:3, :3], pose[0, 3] = rotation_y(0.3 + 0.1 * index), 2.0 + index
    return poses


@settings(max_examples=40)
@given(st.integers(16, 2000), st.integers(16, 2000))
def test_sizes_are_whole_patches_of_about_the_same_shape(height: int, width: int) -> None:
    for size in (pi3x_size(height, width), vggt_size(height, width)):
        assert all(side > 0 and side % 14 == 0 for side in size)
    assert vggt_size(height, width)[1] == 518
    if 0.25 < height / width < 4:
        made = pi3x_size(height, width)
        assert made[0] * made[1] <= 255_000
        assert made[0] / made[1] == pytest.approx(height / width, rel=0.12)


def test_the_network_sees_resized_frames_and_its_poses_become_relative() -> None:
    shapes: list[tuple[int, ...]] = []

    def cameras(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        assert images.dtype == np.float32
        shapes.append(images.shape)
        return path() + 1e-4  # as half precision would leave them

    estimate = NetworkEstimator("fake", "1", lambda h, w: (28, 42), cameras).estimate(
        FRAMES, None, 16.0
    )
    assert shapes == [(3, 3, 28, 42)]
    np.testing.assert_allclose(estimate.poses, relative_to_first(path()), atol=1e-3)
    turns = estimate.poses[:, :3, :3]
    identities = np.tile(np.eye(3), (3, 1, 1))
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), identities, atol=1e-12)
    assert estimate.info.name == "fake" and estimate.info.source == "estimated"


def test_frames_without_an_answer_are_invalid() -> None:
    answer = path()
    answer[1] = np.nan
    estimate = NetworkEstimator("fake", "1", vggt_size, lambda _: answer).estimate(
        FRAMES, None, 16.0
    )
    np.testing.assert_array_equal(estimate.valid, [True, False, True])
    assert np.isnan(estimate.poses[1]).all()
    with pytest.raises(ValueError, match=r"\[3, 4, 4\]"):
        NetworkEstimator("fake", "1", vggt_size, lambda _: answer[:2]).estimate(FRAMES, None, 16.0)


@pytest.mark.parametrize(
    ("load", "package", "licence"),
    [(load_pi3x, "pi3", "CC BY-NC 4.0"), (load_vggt, "vggt", "licences")],
)
def test_a_missing_package_names_itself_and_the_licence(
    load: object, package: str, licence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=licence) as caught:
        load(Path("weights.safetensors"))  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for both packages: networks of one parameter that know the path."""

    class Pi3X(torch.nn.Module):
        def __init__(self, use_multimodal: bool) -> None:
            super().__init__()
            assert not use_multimodal
            self.gain = torch.nn.Parameter(torch.zeros(()))

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            assert images.shape[:3] == (1, 3, 3)
            return {"camera_poses": self.gain * torch.from_numpy(path())[None]}

    class VGGT(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.zeros(()))

        def aggregator(self, images: torch.Tensor) -> tuple[torch.Tensor, int]:
            return images, 5

        def camera_head(self, tokens: torch.Tensor) -> list[torch.Tensor]:
            return [self.gain * torch.from_numpy(invert(path())[None, :, :3])]

    def decode(encoding: torch.Tensor, size: torch.Size) -> tuple[torch.Tensor, None]:
        assert size == (350, 518)
        return encoding, None

    for name, content in (
        ("pi3.models.pi3x", {"Pi3X": Pi3X}),
        ("vggt.models.vggt", {"VGGT": VGGT}),
        ("vggt.utils.pose_enc", {"pose_encoding_to_extri_intri": decode}),
    ):
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            module = ModuleType(".".join(parts[:depth]))
            monkeypatch.setitem(sys.modules, module.__name__, module)
            if depth == len(parts):
                vars(module).update(content)


@pytest.mark.parametrize("load", [load_pi3x, load_vggt])
def test_loaded_networks_give_camera_to_world(
    load: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages(monkeypatch)
    file = tmp_path / "model.safetensors"
    save_file({"gain": torch.ones(())}, file)
    estimator = load(file, "cpu")  # type: ignore[operator]
    estimate = estimator.estimate(FRAMES, None, 16.0)
    np.testing.assert_allclose(estimate.poses, relative_to_first(path()), atol=1e-6)
    assert len(estimator.version) == 12

    save_file({"other": torch.ones(())}, file)
    with pytest.raises(ValueError, match="gain"):
        load(file, "cpu")  # type: ignore[operator]
    with pytest.raises(ValueError, match="safetensors"):
        load(tmp_path / "model.pt", "cpu")  # type: ignore[operator]
