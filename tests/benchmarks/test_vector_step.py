"""The batching command: that it counts what it reports, and what it writes."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from benchmarks import vector_step
from benchmarks.vector_step import KINDS, Stepper, kinds_of, rate


def test_both_ways_of_stepping_move_every_world_once_per_call():
    batch, singles = (Stepper("procedural", "all frames", 3, batch) for batch in (True, False))
    for _ in range(2):
        batch.step()
        singles.step()
    assert [batch.envs[0].snapshot(index).episode.chunk for index in range(3)] == [2, 2, 2]
    assert [env.snapshot().episode.chunk for env in singles.envs] == [2, 2, 2]


def test_frames_are_decoded_every_so_many_chunks(monkeypatch):
    monkeypatch.setitem(KINDS, "sometimes", ("pose", 2))
    batch = Stepper("procedural", "sometimes", 2, batch=True)
    [envs] = batch.envs
    seen = []
    for _ in range(4):
        batch.step()
        seen.append(envs.simulation.cache.knows(envs.snapshot(1).episode.world))
    assert seen == [False, True, False, True]


def test_a_world_without_latents_is_only_decoded():
    assert kinds_of("procedural") == ["last frames", "all frames"]
    assert len(kinds_of("tiny")) == 4


def test_rate_counts_whole_calls(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(vector_step.time, "perf_counter", lambda: next(clock))
    assert rate(lambda: None, made=6, seconds=2.5) == pytest.approx(3 * 6 / 3.0)


def test_command_writes_json_and_csv(tmp_path, capsys):
    before, out = torch.get_num_threads(), tmp_path / "out.json"
    arguments = ["--worlds", "procedural", "--sizes", "1", "2", "--seconds", "0", "--rounds", "2"]
    assert vector_step.main([*arguments, "--threads", "1", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [row["batch"] for row in result["batches"]] == [1, 2, 1, 2]
    assert all(row["ratio"] > 0 for row in result["batches"])
    assert result["state_bytes"]["procedural"] > 0
    with (tmp_path / "out_batches.csv").open(newline="") as stream:
        assert [row["batch"] for row in csv.DictReader(stream)] == ["1", "2", "1", "2"]
    assert "ratio" in capsys.readouterr().out
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("bad", [["--sizes", "0"], ["--rounds", "0"]])
def test_bad_arguments_end_before_any_work(bad):
    with pytest.raises(SystemExit) as ended:
        vector_step.main(bad)
    assert ended.value.code == 2
    assert vector_step.main(["--worlds", "nowhere"]) == 2
