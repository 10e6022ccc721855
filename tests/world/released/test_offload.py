"""Offloaded weights: where they are when, and that results are the same.

With one device, a move is a copy: weights on the "device" are in other storage than those at home.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")
pytest.importorskip("diffusers", minversion="0.42")

from camera_paths import ahead
from stepping import advance, frames_of, latents_of
from tiny_release import SIZE, Stack, picture, write_offline_release

from sana_wm_gym.world.released import offload
from sana_wm_gym.world.released.files import BIDIRECTIONAL
from sana_wm_gym.world.released.offload import ON_CPU, RESIDENT, Offload, Visit, offloaded
from sana_wm_gym.world.released.streaming import StreamingWorld, released_spec
from sana_wm_gym.world.world_model import Start

DEVICE = torch.device("cpu")


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every tensor that was moved to a device."""
    seen: list[Tensor] = []

    def copied(tensor: Tensor, device: torch.device) -> Tensor:
        assert device == DEVICE and not torch.is_inference_mode_enabled()
        seen.append(tensor.clone())
        return seen[-1]

    monkeypatch.setattr(offload, "copied", copied)
    return seen


def places(module: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())]


class Network(nn.Module):
    """Twice the input plus a buffer; records where its weights were."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 2.0), requires_grad=False)
        self.register_buffer("bias", torch.ones(1))
        self.places: list[int] = []

    def inner(self, x: Tensor) -> Tensor:
        self.places.append(self.weight.data_ptr())
        return self.weight * x + self.get_buffer("bias")

    def outer(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x))

    def broken(self) -> None:
        raise RuntimeError("out of order")


def test_weights_are_there_during_a_call_and_at_home_otherwise(moves: list[Tensor]) -> None:
    network = Network()
    home = places(network)
    offloaded(network, DEVICE, "inner", "outer", "broken")
    with torch.inference_mode():
        assert network.outer(torch.ones(1)).item() == 7
    assert len(moves) == 2  # once per tensor, though `outer` calls `inner`
    assert set(network.places) == {moves[0].data_ptr()} != {home[0]}
    with pytest.raises(RuntimeError, match="out of order"):
        network.broken()
    assert places(network) == home
    network.inner(torch.ones(1))
    assert len(moves) == 6


def test_a_transfer_that_fails_leaves_everything_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    home = places(network)

    def full(tensor: Tensor, device: torch.device) -> Tensor:
        if tensor is not network.weight.data and tensor.item() == 1:
            raise torch.OutOfMemoryError("no room for the buffer")
        return tensor.clone()

    monkeypatch.setattr(offload, "copied", full)
    visit = Visit(network, DEVICE)
    with pytest.raises(torch.OutOfMemoryError), visit:
        pass
    assert places(network) == home
    monkeypatch.setattr(offload, "copied", lambda tensor, device: tensor.clone())
    with visit:
        assert network.weight.data_ptr() != home[0]


def rollout(world: StreamingWorld, chunks: int) -> list[bytes]:
    start = Start(picture(*SIZE), world.spec.intrinsics, prompt="a room")
    state, shown = world.begin(start, seed=1), []
    for chunk in range(chunks):
        [state] = advance(world, [state], [ahead(world.spec, chunk)])
        shown += [frames_of(world, state).tobytes(), latents_of(world, state).tobytes()]
    return shown


def test_an_offloaded_world_shows_the_same_bytes(
    stack: Stack, moves: list[Tensor], tmp_path: Path
) -> None:
    """VAE and refiner travel once per chunk; the generator never."""
    expected = rollout(stack.load(refined=True), 3)
    assert not moves
    world = stack.load(refined=True, offload=ON_CPU, prompts=tmp_path)
    assert world.second_stage is not None
    vae, refiner = world.codec, world.second_stage.refiner
    before = places(vae) + places(refiner)
    assert rollout(world, 3) == expected
    # Before the first chunk: the image is encoded, the decoder and the refiner begin.
    assert len(moves) == len(places(vae)) * (2 + 3) + len(places(refiner)) * (1 + 3)
    assert places(vae) + places(refiner) == before


def test_text_encoders_run_where_they_are_told(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []

    def load(*folders: Path, device: str) -> Any:
        devices.append(device)
        raise InterruptedError

    monkeypatch.setattr("sana_wm_gym.world.learned.captions.load_generator_text", load)
    monkeypatch.setattr("sana_wm_gym.world.released.loading.load_refiner_text", load)
    for place, expected in ((None, "cpu"), ("meta", "meta")):
        world = stack.load(refined=True, offload=Offload(text=place), prompts=tmp_path)
        assert world.caption is not None and world.second_stage is not None
        for caption in (world.caption, world.second_stage.caption):
            with pytest.raises(InterruptedError):
                caption("a room")
        assert devices == [expected] * 2
        devices.clear()


def test_an_offloaded_clip_is_the_same_clip(
    stack: Stack, moves: list[Tensor], tmp_path: Path
) -> None:
    write_offline_release(tmp_path, BIDIRECTIONAL, stack.folder)
    release = Stack(tmp_path, stack.prompts, BIDIRECTIONAL)
    given = picture(*SIZE), ahead(released_spec("", release.load().vae, SIZE)), "a room"
    resident, visiting = (
        release.load(refined=True, offload=place).clip(*given, seed=2)
        for place in (RESIDENT, ON_CPU)
    )
    assert moves
    assert np.array_equal(resident.frames, visiting.frames)
    assert np.array_equal(resident.latents, visiting.latents)
