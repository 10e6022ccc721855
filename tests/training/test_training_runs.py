"""Training runs: killed and resumed, branched, begun from weights, refused."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import CODEC, FREQUENCIES, SURFACES, small
from stepping import frames_of

from sana_wm_gym.models.codec import CodecConfig
from sana_wm_gym.training import train as training
from sana_wm_gym.training.config import TrainConfig
from sana_wm_gym.training.export import export
from sana_wm_gym.training.fit_localiser import LocaliserFit
from sana_wm_gym.training.optimizer import Optimizer
from sana_wm_gym.training.run import TrainingRun
from sana_wm_gym.training.train import train
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.scenes import generate_scene

LAST_STEP = Optimizer.step


def column(path: Path, name: str) -> list[float]:
    with path.open(newline="") as stream:
        return [float(row[name]) for row in csv.DictReader(stream)]


# Runs


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run that was killed in its fourth step, and resumed."""
    config = small(tmp_path_factory.mktemp("base"))

    def killed(self: Optimizer, step: int, total: int) -> float:
        if step == 3:
            raise KeyboardInterrupt
        return LAST_STEP(self, step, total)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LOG_EVERY", 1)
        with pytest.MonkeyPatch.context() as kill:
            kill.setattr(Optimizer, "step", killed)
            with pytest.raises(KeyboardInterrupt):
                train(config)
        assert column(Path(config.folder) / "loss.csv", "step") == [1, 2, 3]
        train(config)
    return config


def test_a_killed_run_resumes_from_its_checkpoint(base: TrainConfig) -> None:
    folder = Path(base.folder)
    assert column(folder / "loss.csv", "step") == [1, 2, 3, 4, 5, 6]  # step 3 once
    assert column(folder / "loss.csv", "rate") == [0.5, 0.75, 1, 1, 1, 1]  # no second warm-up
    assert column(folder / "validation.csv", "step") == [6]
    hours = column(folder / "loss.csv", "cpu_hours")
    assert hours == sorted(hours)
    run = TrainingRun(base, print)
    assert run.done == 6
    assert run.optimizer.adamw.state and run.optimizer.muon.state
    train(base)  # nothing is left to do
    assert column(folder / "loss.csv", "step") == [1, 2, 3, 4, 5, 6]


def test_a_decay_branches_off_a_run(
    base: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {path.name: path.read_bytes() for path in Path(base.folder).glob("*.*")}
    decaying = replace(base.optimizer, decay=4)
    branch = replace(base, folder=str(tmp_path), init=base.folder, steps=10, optimizer=decaying)
    begun, before = TrainingRun(branch, print), TrainingRun(base, print)
    assert begun.done == 6 and begun.cpu_hours == before.cpu_hours
    expected = before.model.state_dict()
    assert all(torch.equal(expected[n], v) for n, v in begun.model.state_dict().items())
    monkeypatch.setattr(training, "LOG_EVERY", 1)
    train(branch)
    assert column(tmp_path / "loss.csv", "step") == list(range(1, 11))
    assert column(tmp_path / "loss.csv", "rate")[6:] == [0.75, 0.5, 0.25, 0]
    assert TrainingRun(branch, print).done == 10  # its own checkpoint, not the source's again
    assert source == {path.name: path.read_bytes() for path in Path(base.folder).glob("*.*")}


def test_a_run_from_a_world_file_starts_anew(base: TrainConfig, tmp_path: Path) -> None:
    source = Path(base.folder) / "tiny.safetensors"
    begun = TrainingRun(replace(base, folder=str(tmp_path), init=str(source)), print)
    assert (begun.done, begun.cpu_hours) == (0, 0.0)
    assert begun.optimizer.rate(0, 100) == 0.25
    assert not begun.optimizer.adamw.state and not begun.optimizer.muon.state
    file = read_world_file(source)
    for part, expected in ((begun.model, file.generator), (begun.codec, file.codec)):
        wanted = expected.state_dict()
        assert all(torch.equal(wanted[name], v) for name, v in part.state_dict().items())


def test_weights_ship(base: TrainConfig, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "world.safetensors"
    export(Path(base.folder), path)
    assert path.read_bytes() == (Path(base.folder) / "tiny.safetensors").read_bytes()
    world = world_of(read_world_file(path))
    assert world.spec.scenes == (3,) and world.spec.surfaces == ()
    assert (world.clean_pass, world.frequencies, world.localiser) == (False, FREQUENCIES, None)
    assert list(world.schedule.timesteps) == [1000]
    state = world.begin(world.sample_start(np.random.default_rng(0)), 0)
    assert frames_of(world, state).shape == (1, 32, 32, 3)
    with pytest.raises(FileNotFoundError, match=r"no tiny\.safetensors in .*; train first"):
        export(tmp_path, path)


def test_what_a_run_cannot_start_from(base: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = replace(base, folder=str(tmp_path), init=str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="expected a world file or a run's folder"):
        TrainingRun(config, print)
    source = str(Path(base.folder) / "tiny.safetensors")
    for change in ({"frequencies": ()}, {"codec": CodecConfig(4, hidden=16, depth=1)}):
        config = replace(base, folder=str(tmp_path / str(*change)), init=source, **change)
        with pytest.raises(ValueError, match="is of another network"):
            TrainingRun(config, print)
    config = replace(base, folder=str(tmp_path), init=base.folder)
    TrainingRun(config, print)
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        TrainingRun(config, print)


def test_a_run_with_localiser_and_words(tmp_path: Path) -> None:
    fit = LocaliserFit(steps=2, batch=4, negatives=3, warmup=1)
    lines: list[str] = []
    config = small(
        tmp_path,
        scenes=(COURTYARD,),
        localiser_fit=fit,
        localiser_frames=20,
        foreign_scenes=1,
        lengths=(2,),
        walks=(2,),
        length_weights=(1.0,),
        steps=2,
    )
    first = TrainingRun(config, lines.append)
    assert any(line.startswith("localiser step 2: median") for line in lines)
    assert first.localiser is not None
    train(config)
    world = world_of(read_world_file(tmp_path / "tiny.safetensors"))
    assert world.spec.surfaces == generate_scene(COURTYARD).surfaces
    assert world.localiser is not None
    for name, value in world.localiser.state_dict().items():
        assert torch.equal(value, first.localiser.state_dict()[name].half().float()), name
    assert column(tmp_path / "validation.csv", "step") == [2]
    with pytest.raises(ValueError, match="a localiser is fitted to one"):
        TrainingRun(replace(config, folder=str(tmp_path / "two"), scenes=(3, 4)), print)
    with pytest.raises(ValueError, match="different surfaces"):
        TrainingRun(replace(config, folder=str(tmp_path / "two"), scenes=(3, COURTYARD)), print)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 60}, "size"),
        ({"lengths": (4,), "length_weights": (0.5, 0.5)}, "lengths"),
        ({"walks": (4, 0, 1)}, "walks"),
        ({"batch": 0}, "batch"),
        ({"steps": 0}, "steps"),
        ({"save_every": 0}, "save_every"),
        ({"estimated_anchors": 1.5}, "estimated_anchors"),
        ({"word_dropout": -0.1}, "word_dropout"),
        ({"prompt_dropout": 2}, "prompt_dropout"),
    ],
)
def test_a_config_that_does_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_the_generator_fits_its_inputs() -> None:
    size = TrainConfig(frequencies=(1.0, 2.0), codec=CODEC).generator(SURFACES)
    assert (size.latent_channels, size.plucker_channels) == (8, 240)
    assert (size.text_channels, size.text_tokens) == (6, 3)
    assert TrainConfig().generator(()).text_channels is None
