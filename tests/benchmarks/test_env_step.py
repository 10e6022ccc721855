"""The speed command: what it counts, what it leaves alone, and that a state does not grow."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from benchmarks import env_step
from benchmarks.step_timing import WARM_UP, Rollouts, Stopwatch, phases_of, state_bytes
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld


@pytest.fixture(scope="module")
def small(small_world_file):
    return world_of(read_world_file(small_world_file))


def test_stopwatch_adds_up_and_counts_failures():
    watch = Stopwatch()
    with watch.running():
        pass
    once = watch.wall
    with pytest.raises(KeyError), watch.running():
        raise KeyError
    assert watch.wall > once > 0


def test_walk_stays_near_its_start():
    rollouts = Rollouts.of(ProceduralWorld(), 1, seed=0)
    reach = []
    for _ in range(10):
        rollouts.step(1)
        reach.append(np.linalg.norm(rollouts.camera.c2w[:3, 3]))
    assert 0.2 < max(reach) < 1.0


@pytest.mark.parametrize("learned", [True, False])
def test_state_does_not_grow(small, learned):
    world = small if learned else ProceduralWorld()
    rollouts = Rollouts.of(world, 1, seed=0)
    assert rollouts.chunk == WARM_UP
    first = state_bytes(world, rollouts.states[0])
    rollouts.step(6)
    assert state_bytes(world, rollouts.states[0]) == first > 0


@pytest.mark.parametrize("name", ["small_world_file", "courtyard_world_file"])
def test_phases_are_of_one_step_and_leave_no_trace(name, request):
    """A world without a clean pass has no such phase."""
    world = world_of(read_world_file(request.getfixturevalue(name)))
    phases = phases_of(world, 2, chunks=2, seed=0)
    names = ["cameras and noise", "denoising", "clean pass", "samples, batching, copies"]
    if not world.clean_pass:
        names.remove("clean pass")
    assert list(phases) == [*names, "decoding"]
    assert min(phases.values()) > 0
    assert not world.model._forward_hooks and not world.model._forward_pre_hooks


def test_command(small_world_file, tmp_path):
    out = tmp_path / "env_step.json"
    arguments = ["--batches", "1", "2", "--steps", "1", "--rounds", "1", "--chunks", "6"]
    arguments += ["--weights", str(small_world_file), "--out", str(out)]
    assert env_step.main(arguments) == 0
    result = json.loads(out.read_text())
    for key in ("command", "commit", "device", "date", "weights"):
        assert result[key]
    assert {(row["world"], row["batch"]) for row in result["batches"]} == {
        (world, batch) for world in ("tiny", "procedural") for batch in (1, 2)
    }
    for row in result["batches"]:
        assert row["frames_per_cpu_s"] == pytest.approx(24 * row["steps_per_cpu_s"])
        assert row["undecoded_steps_per_cpu_s"] > row["steps_per_cpu_s"] > 0
        if row["world"] == "tiny":
            assert row["ratio_to_first_world"] == 1
    tiers = ["environment", "with inference", "with training"]
    assert [row["tier"] for row in result["tiers"]] == [*tiers, *tiers]
    assert all(row["steps_per_s"] > 0 for row in result["tiers"])
    for rows in result["memory"].values():
        assert (rows[0]["chunk"], rows[-1]["chunk"]) == (4, 6)
    assert min(result["cold_start_s"]["tiny"].values()) > 0
    with (tmp_path / "env_step_batches.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 4


@pytest.mark.parametrize(
    "arguments", [["--chunks", "4"], ["--batches", "0"], ["--worlds", "nowhere"]]
)
def test_bad_arguments_end_before_any_work(arguments):
    with pytest.raises(SystemExit) as end:
        env_step.main(arguments)
    assert end.value.code == 2


def test_missing_weights_are_one_line(tmp_path, capsys):
    path = tmp_path / "none.safetensors"
    assert env_step.main(["--worlds", "tiny", "--weights", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: no world file at {path}")
