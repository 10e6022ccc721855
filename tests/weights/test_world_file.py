"""World files come back as they went in, and what is damaged is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.weights import world_file
from sana_wm_gym.weights.world_file import FORMAT, WorldFile, read_world_file, write_world_file

METADATA = {
    "name": "small",
    "timesteps": [1000, 0],
    "scenes": [1, 2],
    "surfaces": [{"name": "door", "variants": ["red", "blue"]}],
    "frequencies": [1.5, 3.0],
    "clean_pass": False,
}
LOCALISER = LocaliserConfig(size=16, channels=(4, 4, 4, 4), depth=(0, 0, 0, 1), hidden=8)
WEIGHT = "generator.blocks.0.attn.qkv.weight"


def make(seed: int = 0, localiser: LocaliserConfig | None = LOCALISER) -> WorldFile:
    torch.manual_seed(seed)
    config = SanaWMConfig(
        latent_channels=4,
        width=16,
        depth=2,
        heads=1,
        softmax_every=2,
        text_channels=None,
        position_entries=0,
        unread_entries=False,
    )
    codec = PatchCodec(CodecConfig(channels=4, patch=2, hidden=4, depth=1))
    codec.basis.normal_()
    finder = None if localiser is None else Localiser(localiser)
    if finder is not None:
        finder.mean.copy_(torch.tensor([1.5, -0.25, 3.0]))
        finder.threshold.fill_(-2.5)
    return WorldFile(SanaWM(config, EXACT), codec, METADATA, finder)


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "small.safetensors"
    write_world_file(path, make())
    return path


def weights(world: WorldFile) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor
        for part, module in world.parts.items()
        for name, tensor in module.state_dict().items()
    }


def edit(path: Path, change_tensors=None, change_header=None) -> None:
    with safe_open(path, framework="pt") as stored:
        header = json.loads(stored.metadata()["sana_wm_gym"])
    tensors = load_file(path)
    for change, content in ((change_tensors, tensors), (change_header, header)):
        if change is not None:
            change(content)
    save_file(tensors, path, metadata={"sana_wm_gym": json.dumps(header)})


def test_round_trip_in_half_precision(path):
    read, given = read_world_file(path), make()
    assert read.metadata == METADATA
    assert (read.generator.config, read.codec.config) == (
        given.generator.config,
        given.codec.config,
    )
    expected = weights(given)
    for name, tensor in weights(read).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name].half().float()), name
    assert weights(read).keys() == expected.keys()
    assert read.localiser is not None and read.localiser.config == LOCALISER
    assert not any(module.training for module in read.parts.values())


def test_a_world_without_a_localiser(tmp_path):
    path = tmp_path / "plain.safetensors"
    write_world_file(path, make(localiser=None))
    read = read_world_file(path)
    assert read.localiser is None and read.parts.keys() == {"generator", "codec"}
    assert read.metadata == METADATA
    edit(path, lambda t: t.update({"localiser.mean": torch.zeros(3)}))
    with pytest.raises(ValueError, match="has unknown 1: localiser.mean"):
        read_world_file(path)


def test_a_weight_too_large_for_half_precision(tmp_path):
    world = make()
    assert world.localiser is not None
    with torch.no_grad():
        world.localiser.hidden.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"localiser\.hidden\.weight holds values that float16"):
        write_world_file(tmp_path / "large.safetensors", world)
    assert not list(tmp_path.iterdir())


def test_a_file_rewritten_is_the_same_file(path, tmp_path):
    again = tmp_path / "again.safetensors"
    write_world_file(again, read_world_file(path))
    assert again.read_bytes() == path.read_bytes()


def test_an_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at .*nowhere.safetensors"):
        read_world_file(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        *(lambda c, kept=kept: c[: int(kept * len(c))] for kept in (0.0, 0.001, 0.5, 0.999)),
        lambda c: b"not a network, but long enough to hold a header" * 9,
    ],
)
def test_a_truncated_or_other_file(path, change):
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match="small.safetensors is truncated, damaged"):
        read_world_file(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop(WEIGHT), f"lacks 1: {WEIGHT}"),
        (lambda t: t.pop("codec.basis"), "lacks 1: codec.basis"),
        (lambda t: t.pop("localiser.pose.bias"), "lacks 1: localiser.pose.bias"),
        (
            lambda t: t.update({"localiser.scale": torch.zeros(2)}),
            r"wrong shapes 1: localiser\.scale \(2,\) instead of \(1,\)",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if name.startswith("localiser.")],
            r"lacks \d+: localiser\.",
        ),
        (
            lambda t: t.update({"generator.novelty": torch.zeros(1)}),
            "has unknown 1: generator.novelty",
        ),
        (lambda t: t.update(stray=torch.zeros(1)), "has unknown 1: stray"),
        (
            lambda t: t.update({WEIGHT: torch.zeros(16, 48).half()}),
            r"qkv.weight \(16, 48\) instead of \(48, 16\)",
        ),
        (lambda t: t[WEIGHT][3, 5].fill_(torch.nan), "qkv.weight holds values that are not finite"),
        (lambda t: t[WEIGHT][3, 5].fill_(torch.inf), "qkv.weight holds values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit(path, change, expected):
    edit(path, change_tensors=change)
    with pytest.raises(ValueError, match=rf"small\.safetensors.*{expected}"):
        read_world_file(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda h: h.update(format="other/7"), rf"has format 'other/7'; expected '{FORMAT}'"),
        (lambda h: h.pop("format"), "lacks the header of a world file: KeyError"),
        (lambda h: h.pop("world"), "lacks the header of a world file: KeyError"),
        (lambda h: h.pop("localiser"), "lacks the header of a world file: KeyError"),
        (lambda h: h["localiser"].update(eyes=2), "lacks the header of a world file: TypeError"),
        (lambda h: h["generator"].update(wings=2), "lacks the header of a world file: TypeError"),
    ],
)
def test_headers_that_do_not_fit(path, change, expected):
    edit(path, change_header=change)
    with pytest.raises(ValueError, match=rf"small\.safetensors {expected}"):
        read_world_file(path)


def test_a_plain_safetensors_file(path):
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"small\.safetensors lacks the header of a world file"):
        read_world_file(path)


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        Path(target).write_bytes(before[:100])
        raise OSError("disk full")

    monkeypatch.setattr(world_file, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_world_file(path, make(seed=1))
    assert path.read_bytes() == before
    monkeypatch.undo()
    write_world_file(path, make(seed=1))
    assert path.read_bytes() != before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
