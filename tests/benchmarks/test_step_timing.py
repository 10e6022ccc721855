"""The speed commands: what they count, what they leave alone, and that a state does not grow."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from benchmarks import env_step, step_timing, vector_step
from benchmarks.step_timing import WARM_UP, Stepper, Stopwatch, phases_of
from benchmarks.vector_step import KINDS, kinds_of, rate
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld


def test_stopwatch_adds_up_and_counts_failures():
    watch = Stopwatch()
    with watch.running():
        pass
    once = watch.wall
    with pytest.raises(KeyError), watch.running():
        raise KeyError
    assert watch.wall > once > 0


def test_walk_stays_near_its_start():
    stepper, reach = Stepper("procedural", 1, observation="pose"), []
    for _ in range(10):
        stepper.step()
        reach.append(np.linalg.norm(stepper.envs[0].snapshot(0).episode.c2w[-1, :3, 3]))
    assert 0.2 < max(reach) < 1.0


@pytest.mark.parametrize("learned", [True, False])
def test_state_does_not_grow(small_world_file, learned):
    stepper = Stepper(str(small_world_file) if learned else "procedural", 1)
    assert stepper.chunk == WARM_UP
    first = stepper.state_bytes()
    for _ in range(6):
        stepper.step()
    assert stepper.state_bytes() == first > 0


def test_both_ways_of_stepping_move_every_world_once_per_call(monkeypatch):
    monkeypatch.setattr(step_timing, "WARM_UP", 2)
    batch, singles = (Stepper("procedural", 3, batch=batch) for batch in (True, False))
    assert [batch.envs[0].snapshot(index).episode.chunk for index in range(3)] == [2, 2, 2]
    assert [env.snapshot().episode.chunk for env in singles.envs] == [2, 2, 2]


def test_frames_are_decoded_every_so_many_chunks(monkeypatch):
    decoded = []
    decode = ProceduralWorld.decode
    monkeypatch.setattr(
        ProceduralWorld, "decode", lambda *call: decoded.append(batch.chunk) or decode(*call)
    )
    batch = Stepper("procedural", 2, observation="pose", render_every=8)
    for _ in range(12):
        batch.step()
    assert decoded == [8, 16]


@pytest.mark.parametrize("name", ["small_world_file", "courtyard_world_file"])
def test_phases_are_of_one_step_and_leave_no_trace(name, request):
    """A world without a clean pass has no such phase."""
    world = world_of(read_world_file(request.getfixturevalue(name)))
    phases = phases_of(world, 2, chunks=2)
    names = ["cameras and noise", "denoising", "clean pass", "samples, batching, copies"]
    if not world.clean_pass:
        names.remove("clean pass")
    assert list(phases) == [*names, "decoding"]
    assert min(phases.values()) > 0
    assert not world.model._forward_hooks and not world.model._forward_pre_hooks


def test_env_step_writes_json_and_csv(small_world_file, tmp_path, monkeypatch):
    monkeypatch.setattr(env_step, "BATCHES", (1, 2))
    monkeypatch.setattr(env_step, "STEPS", 2)
    out, small = tmp_path / "out.json", str(small_world_file)
    arguments = ["--worlds", small, "procedural", "--rounds", "1", "--chunks", "6"]
    assert env_step.main([*arguments, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    for key in ("command", "commit", "device", "date", "rounds", "steps"):
        assert result[key]
    names = [small] * 3 + ["procedural"] * 3
    assert [row["world"] for row in result["tiers"]] == names
    assert [row["tier"] for row in result["tiers"]] == [*env_step.TIERS] * 2
    assert all(row["steps_per_s"] > 0 for row in result["tiers"])
    watched = [(row["world"], row["chunk"]) for row in result["memory"]]
    assert watched == list(zip(names, [4, 5, 6] * 2, strict=True))
    assert [row["batch"] for row in result["phases"]] == [1, 2]
    assert all(row["imports"] > 0 for row in result["cold_start"])
    with (tmp_path / "out_memory.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 6


def test_a_world_without_latents_is_only_decoded():
    assert kinds_of("procedural") == ["last frames", "all frames"]
    assert len(kinds_of("tiny")) == len(KINDS) == 4


def test_rate_counts_whole_calls(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(vector_step.time, "perf_counter", lambda: next(clock))
    assert rate(lambda: None, made=6, seconds=2.5) == pytest.approx(3 * 6 / 3.0)


def test_vector_step_writes_json_and_csv(tmp_path, capsys):
    before, out = torch.get_num_threads(), tmp_path / "out.json"
    arguments = ["--worlds", "procedural", "--sizes", "1", "2", "--seconds", "0", "--rounds", "2"]
    assert vector_step.main([*arguments, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [row["batch"] for row in result["batches"]] == [1, 2, 1, 2]
    assert all(row["ratio"] > 0 for row in result["batches"])
    assert result["states"][0]["kB"] > 0
    with (tmp_path / "out_batches.csv").open(newline="") as stream:
        assert [row["batch"] for row in csv.DictReader(stream)] == ["1", "2", "1", "2"]
    assert "ratio" in capsys.readouterr().out
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (env_step, "--chunks 4"),
        (env_step, "--rounds 0"),
        (env_step, "--worlds nowhere"),
        (env_step, "--worlds none.safetensors"),
        (vector_step, "--sizes 0"),
        (vector_step, "--rounds 0"),
        (vector_step, "--worlds nowhere"),
    ],
)
def test_bad_arguments_end_before_any_work(script, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(arguments.split())
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
