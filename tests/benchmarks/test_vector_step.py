"""The batching command: that it counts what it says, and that its tables reach the page."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks import vector_step
from benchmarks.pages import replace_between
from benchmarks.vector_step import DECODED, SEEN, Batch, Kind, OneByOne, kinds_of, rate, threads
from benchmarks.vector_tables import BEGIN, END


def test_both_ways_of_stepping_move_every_world_once_per_call():
    batch, singles = Batch("procedural", DECODED, 3), OneByOne("procedural", DECODED, 3)
    for _ in range(2):
        batch.step()
        singles.step()
    assert [batch.envs.snapshot(row).episode.chunk for row in range(3)] == [2, 2, 2]
    assert [env.snapshot().episode.chunk for env in singles.envs] == [2, 2, 2]


def test_frames_are_decoded_every_so_many_chunks():
    batch = Batch("procedural", Kind("sometimes", "pose", 2), 2)
    seen = []
    for _ in range(4):
        batch.step()
        episode = batch.envs.snapshot(1).episode
        seen.append(batch.envs.simulation.cache.knows(episode.world))
    assert seen == [False, True, False, True]


def test_a_world_without_latents_is_only_decoded():
    assert kinds_of("procedural") == (SEEN, DECODED)
    assert len(kinds_of("tiny")) == 4


def test_rate_counts_whole_calls(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(vector_step.time, "perf_counter", lambda: next(clock))
    assert rate(lambda: None, made=6, seconds=2.5) == pytest.approx(3 * 6 / 3.0)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_command_writes_json_and_page(tmp_path, monkeypatch, capsys):
    page, out = tmp_path / "page.md", tmp_path / "out.json"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    arguments = ["--worlds", "procedural", "--sizes", "1", "2", "--seconds", "0", "--rounds", "2"]
    arguments += ["--threads", "1", "--out", str(out), "--page", str(page)]
    monkeypatch.setattr(sys, "argv", ["vector_step", *arguments])
    assert vector_step.main(arguments) == 0
    result = json.loads(out.read_text())
    assert [row["batch"] for row in result["batches"]] == [1, 2, 1, 2]
    assert all(row["ratio"] > 0 for row in result["batches"])
    assert result["state_bytes"]["procedural"] > 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith(f"{END}\nafter\n")
    assert "old" not in text and "| procedural | last frames | 2 |" in text
    assert "ratio" in capsys.readouterr().out


def test_page_without_marks_stays_as_it_is(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="has no"):
        replace_between(page, BEGIN, END, "text")
    assert page.read_text() == "nothing here"


@pytest.mark.parametrize("bad", [["--sizes", "0"], ["--rounds", "0"], ["--page", "no/such.md"]])
def test_bad_arguments_end_before_any_work(bad):
    with pytest.raises(SystemExit) as ended:
        vector_step.main(bad)
    assert ended.value.code == 2
